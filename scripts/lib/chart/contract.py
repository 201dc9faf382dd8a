"""What programs beside the chart count on, and what Kubernetes does not check: that the objects fit together."""

CLUSTER_SCOPED = {"ClusterRole", "ClusterRoleBinding"}
LABELS = {
    "app.kubernetes.io/instance",
    "app.kubernetes.io/managed-by",
    "app.kubernetes.io/name",
    "app.kubernetes.io/part-of",
    "app.kubernetes.io/version",
    "helm.sh/chart",
}
BINARY = "/usr/local/bin/kube9-operator"


def problems(manifests, release, namespace):
    """The agent's Deployment as clients know it, and the consistency of all objects."""
    deployments = manifests.of("Deployment")
    if len(deployments) != 1:
        yield f"{len(deployments)} Deployments"
        return
    yield from of_deployment(deployments[0], release)
    yield from of_names(manifests, namespace)
    yield from of_accounts(manifests)
    for name, _, spec in manifests.pods():
        for problem in of_volumes(spec):
            yield f"{name}: {problem}"
    selector = deployments[0]["spec"]["selector"]["matchLabels"]
    for pod in manifests.of("Pod"):
        labels = pod["metadata"]["labels"]
        if selector.items() <= labels.items() or labels["app.kubernetes.io/name"] == "kube9-operator":
            yield f"Pod {pod['metadata']['name']}: a client would take it for the agent"


def of_deployment(deployment, release):
    """One agent, never two; found by its labels; asked for its health in the way the agent answers."""
    spec = deployment["spec"]
    pod = spec["template"]["spec"]
    labels = spec["template"]["metadata"]["labels"]
    containers = pod["containers"]
    fixed = {"app.kubernetes.io/name": "kube9-operator", "app.kubernetes.io/instance": release}

    if spec["replicas"] != 1 or spec["strategy"] != {"type": "Recreate"}:
        yield "not one replica with strategy Recreate"
    if spec["selector"] != {"matchLabels": fixed}:
        yield f"the selector changed, which no upgrade survives: {spec['selector']}"
    if not (fixed | {"app": "kube9-operator"}).items() <= labels.items():
        yield f"labels of the pod: {labels}"
    if LABELS & {"helm.sh/chart", "app.kubernetes.io/version"} & labels.keys():
        yield "labels of the pod change with every version of the chart"
    if [container["name"] for container in containers] != ["operator"]:
        yield "not one container named operator"
        return
    container = containers[0]
    if container["args"] != ["run"] or "command" in container:
        yield "the container does not run `run`"
    wanted = {"startupProbe": ["health"], "livenessProbe": ["health"], "readinessProbe": ["health", "--ready"]}
    for probe, arguments in wanted.items():
        if container.get(probe, {}).get("exec", {}).get("command") != [BINARY, *arguments]:
            yield f"{probe} does not ask `kube9-operator {' '.join(arguments)}`"
    if not container.get("securityContext", {}).get("readOnlyRootFilesystem"):
        yield "the root file system can be written to"
    if "cpu" in container.get("resources", {}).get("limits", {}):
        yield "a CPU limit by default"
    variables = [variable["name"] for variable in container["env"]]
    for name in {name for name in variables if variables.count(name) > 1}:
        yield f"variable {name} is given twice"


def of_names(manifests, namespace):
    """Every object carries the recommended labels and its namespace; what has none carries it in its name."""
    seen = set()
    for doc in manifests.docs:
        metadata = doc["metadata"]
        title = f"{doc['kind']} {metadata['name']}"
        if title in seen:
            yield f"{title}: rendered twice"
        seen.add(title)
        if missing := LABELS - metadata.get("labels", {}).keys():
            yield f"{title}: no labels {sorted(missing)}"
        if doc["kind"] in CLUSTER_SCOPED:
            if "namespace" in metadata or namespace not in metadata["name"].split(":"):
                yield f"{title}: two namespaces could not have an agent each"
        elif metadata.get("namespace") != namespace:
            yield f"{title}: in namespace {metadata.get('namespace')}"


def of_accounts(manifests):
    """All pods run as one account, which hands its token to nobody else, and have the token in exactly one way."""
    accounts = {spec["serviceAccountName"] for _, _, spec in manifests.pods()}
    if len(accounts) != 1:
        yield f"pods run as {sorted(accounts)}"
    for account in manifests.of("ServiceAccount"):
        if account["metadata"]["name"] not in accounts:
            yield f"no pod runs as ServiceAccount {account['metadata']['name']}"
        if account.get("automountServiceAccountToken") is not False:
            yield f"ServiceAccount {account['metadata']['name']} hands its token to every pod that names it"
    for name, _, spec in manifests.pods():
        paths = [mount["mountPath"] for container in spec["containers"] for mount in container.get("volumeMounts", [])]
        mounted = paths.count("/var/run/secrets/kubernetes.io/serviceaccount")
        if spec.get("automountServiceAccountToken") is not (mounted == 0):
            yield f"{name}: the token is mounted {mounted + bool(spec.get('automountServiceAccountToken'))} times"


def of_volumes(spec):
    """Volumes and mounts agree; the key may come later, so its Secret is optional and mounted as a directory."""
    volumes = {volume["name"]: volume for volume in spec.get("volumes", [])}
    mounts = [mount for container in spec["containers"] for mount in container.get("volumeMounts", [])]
    if volumes.keys() != {mount["name"] for mount in mounts}:
        yield f"volumes {sorted(volumes)} and mounts {sorted(mount['name'] for mount in mounts)} differ"
    for mount in mounts:
        if "subPath" in mount:
            yield f"mount {mount['name']} has a subPath, which never changes in a running pod"
        if mount["name"] != "data" and not mount.get("readOnly"):
            yield f"mount {mount['name']} can be written to"
    if key := volumes.get("api-key"):
        if not key["secret"].get("optional") or [item["path"] for item in key["secret"]["items"]] != ["apiKey"]:
            yield f"the volume of the API key: {key}"
