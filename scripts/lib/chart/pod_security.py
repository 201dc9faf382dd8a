"""Pod Security Standards, level `restricted`: https://kubernetes.io/docs/concepts/security/pod-security-standards/

Every control of the page, baseline and restricted, for Linux pods. Where a list has grown with Kubernetes (sysctls, SELinux
types) the shortest list counts, that of the oldest version the chart installs on: what passes here passes on all of them.
"""

SYSCTLS = {
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ping_group_range",
    "net.ipv4.tcp_syncookies",
}
SELINUX_TYPES = {None, "", "container_t", "container_init_t", "container_kvm_t"}
VOLUME_TYPES = {
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "persistentVolumeClaim",
    "projected",
    "secret",
}
PROFILES = {"RuntimeDefault", "Localhost"}
APPARMOR_ANNOTATION = "container.apparmor.security.beta.kubernetes.io/"


def problems(manifests):
    """Why the API server would refuse a pod in a namespace that enforces `restricted`."""
    return [f"{name}: {problem}" for name, metadata, spec in manifests.pods() for problem in of_pod(metadata, spec)]


def of_pod(metadata, spec):
    """The problems of one pod."""
    pod = spec.get("securityContext") or {}

    for key in ("hostNetwork", "hostPID", "hostIPC"):
        if spec.get(key):
            yield f"{key} is true"
    for key, value in (metadata.get("annotations") or {}).items():
        if key.startswith(APPARMOR_ANNOTATION) and value != "runtime/default" and not value.startswith("localhost/"):
            yield f"annotation {key} is {value}"
    for sysctl in pod.get("sysctls") or []:
        if sysctl["name"] not in SYSCTLS:
            yield f"sysctl {sysctl['name']} is not safe"
    for volume in spec.get("volumes") or []:
        for kind in set(volume) - {"name"} - VOLUME_TYPES:
            yield f"volume {volume['name']} is a {kind}"
    yield from of_context("the pod", pod)

    for key in ("containers", "initContainers", "ephemeralContainers"):
        for container in spec.get(key) or []:
            for problem in of_container(container, pod):
                yield f"container {container['name']}: {problem}"


def of_container(container, pod):
    """The problems of one container, with what it takes over from its pod."""
    own = container.get("securityContext") or {}
    capabilities = own.get("capabilities") or {}

    if own.get("privileged"):
        yield "privileged is true"
    if own.get("allowPrivilegeEscalation") is not False:
        yield "allowPrivilegeEscalation is not false"
    if "ALL" not in (capabilities.get("drop") or []):
        yield "capabilities.drop has no ALL"
    for capability in set(capabilities.get("add") or []) - {"NET_BIND_SERVICE"}:
        yield f"capability {capability} is added"
    if own.get("runAsNonRoot", pod.get("runAsNonRoot")) is not True:
        yield "runAsNonRoot is not true"
    if (own.get("seccompProfile") or pod.get("seccompProfile") or {}).get("type") not in PROFILES:
        yield "seccompProfile.type is neither RuntimeDefault nor Localhost"
    if own.get("procMount", "Default") != "Default":
        yield f"procMount is {own['procMount']}"
    for port in container.get("ports") or []:
        if port.get("hostPort"):
            yield f"hostPort {port['hostPort']} is used"
    yield from of_context("it", own)

    handlers = [container.get(key) or {} for key in ("livenessProbe", "readinessProbe", "startupProbe")]
    handlers += [(container.get("lifecycle") or {}).get(key) or {} for key in ("postStart", "preStop")]
    for handler in handlers:
        for key in ("httpGet", "tcpSocket"):
            if (handler.get(key) or {}).get("host"):
                yield f"a probe or hook names the host {handler[key]['host']}"


def of_context(whose, context):
    """What a pod's and a container's security context have in common."""
    if context.get("runAsUser") == 0:
        yield f"{whose} runs as user 0"
    if (context.get("seccompProfile") or {}).get("type", "RuntimeDefault") not in PROFILES:
        yield f"{whose} has seccompProfile {context['seccompProfile']['type']}"
    if (context.get("appArmorProfile") or {}).get("type", "RuntimeDefault") not in PROFILES:
        yield f"{whose} has appArmorProfile {context['appArmorProfile']['type']}"
    if (context.get("windowsOptions") or {}).get("hostProcess"):
        yield f"{whose} is a HostProcess"
    selinux = context.get("seLinuxOptions") or {}
    if selinux.get("type") not in SELINUX_TYPES:
        yield f"{whose} has the SELinux type {selinux['type']}"
    for key in ("user", "role"):
        if selinux.get(key):
            yield f"{whose} sets the SELinux {key}"
