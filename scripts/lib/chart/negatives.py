"""Each check, on a manifest spoilt in one place: a check that cannot fail proves nothing."""

import copy

import blanks
import contract
import manifests
import pod_security
import rbac
import schemas
import values

POD = "spec.template.spec"
BOX = f"{POD}.containers.0"
FORGET = object()

# (kind, path, value, word of the message): the value is put there, or what is there forgotten.
POD_SECURITY = [
    ("Deployment", f"{POD}.hostNetwork", True, "hostNetwork"),
    ("Deployment", f"{POD}.hostPID", True, "hostPID"),
    ("Deployment", f"{POD}.hostIPC", True, "hostIPC"),
    ("Pod", "spec.hostNetwork", True, "hostNetwork"),
    ("Deployment", f"{POD}.volumes.0", {"name": "data", "hostPath": {"path": "/"}}, "hostPath"),
    ("Deployment", f"{POD}.volumes.0", {"name": "data", "nfs": {"server": "a", "path": "/"}}, "nfs"),
    ("Deployment", f"{POD}.securityContext.runAsNonRoot", FORGET, "runAsNonRoot"),
    ("Deployment", f"{POD}.securityContext.runAsUser", 0, "user 0"),
    ("Deployment", f"{POD}.securityContext.seccompProfile", FORGET, "seccompProfile"),
    ("Deployment", f"{POD}.securityContext.seccompProfile.type", "Unconfined", "Unconfined"),
    ("Deployment", f"{POD}.securityContext.sysctls", [{"name": "kernel.msgmax", "value": "1"}], "sysctl"),
    ("Deployment", f"{POD}.securityContext.seLinuxOptions", {"type": "spc_t"}, "SELinux type"),
    ("Deployment", f"{POD}.securityContext.seLinuxOptions", {"user": "root"}, "SELinux user"),
    ("Deployment", f"{POD}.securityContext.appArmorProfile", {"type": "Unconfined"}, "appArmor"),
    ("Deployment", f"{POD}.securityContext.windowsOptions", {"hostProcess": True}, "HostProcess"),
    ("Deployment", f"{BOX}.securityContext", FORGET, "allowPrivilegeEscalation"),
    ("Deployment", f"{BOX}.securityContext.privileged", True, "privileged"),
    ("Deployment", f"{BOX}.securityContext.allowPrivilegeEscalation", True, "allowPrivilegeEscalation"),
    ("Deployment", f"{BOX}.securityContext.capabilities.drop", ["NET_RAW"], "no ALL"),
    ("Deployment", f"{BOX}.securityContext.capabilities.add", ["CHOWN"], "CHOWN"),
    ("Deployment", f"{BOX}.securityContext.runAsNonRoot", False, "runAsNonRoot"),
    ("Deployment", f"{BOX}.securityContext.runAsUser", 0, "user 0"),
    ("Deployment", f"{BOX}.securityContext.procMount", "Unmasked", "procMount"),
    ("Deployment", f"{BOX}.securityContext.seccompProfile", {"type": "Unconfined"}, "Unconfined"),
    ("Deployment", f"{BOX}.ports", [{"containerPort": 1, "hostPort": 1}], "hostPort"),
    ("Deployment", f"{BOX}.livenessProbe.httpGet", {"host": "10.0.0.1", "port": 1}, "host 10.0.0.1"),
    ("Deployment", f"{BOX}.lifecycle", {"preStop": {"tcpSocket": {"host": "a", "port": 1}}}, "host a"),
    ("Deployment", f"{POD}.initContainers", [{"name": "first"}], "container first"),
    ("Deployment", f"{POD}.ephemeralContainers", [{"name": "debug"}], "container debug"),
    (
        "Deployment",
        "spec.template.metadata.annotations",
        {"container.apparmor.security.beta.kubernetes.io/operator": "unconfined"},
        "unconfined",
    ),
]
RBAC = [
    ("ClusterRole", "rules.0.verbs", ["list", "update"], "update"),
    ("ClusterRole", "rules.0.verbs", ["*"], "wildcard"),
    ("ClusterRole", "rules.0.resources", ["*"], "wildcard"),
    ("ClusterRole", "rules.0.apiGroups", ["*"], "wildcard"),
    ("ClusterRole", "rules.0.resources", ["secrets"], "secrets"),
    ("ClusterRole", "rules.0.resources", ["pods/log"], "pods/log"),
    ("ClusterRole", "rules.0.nonResourceURLs", ["/metrics"], "URLs"),
    ("ClusterRole", "aggregationRule", {"clusterRoleSelectors": []}, "aggregated"),
    ("Role", "rules.0.verbs", ["update"], "update"),
    ("Role", "rules.1.verbs", ["patch", "delete"], "must stay"),
    ("Role", "rules.4.resourceNames", FORGET, "must stay"),
    ("Role", "rules.0.resources", ["secrets"], "secrets"),
    ("Role", "rules.0.resources", ["pods"], "more than configmaps"),
    ("Role", "rules.1.resourceNames", FORGET, "not the agent's"),
    ("ClusterRoleBinding", "roleRef.name", "cluster-admin", "cluster-admin"),
    ("RoleBinding", "roleRef.kind", "ClusterRole", "not the chart's"),
    ("RoleBinding", "subjects.0.name", "default", "no pod runs"),
    ("ClusterRoleBinding", "subjects.0", {"kind": "Group", "name": "system:authenticated"}, "Group"),
]
CONTRACT = [
    ("Deployment", "spec.replicas", 2, "one replica"),
    ("Deployment", "spec.strategy.type", "RollingUpdate", "Recreate"),
    ("Deployment", "spec.selector.matchLabels.more", "x", "selector"),
    ("Deployment", "spec.template.metadata.labels.app", FORGET, "labels of the pod"),
    ("Deployment", "spec.template.metadata.labels", {"helm.sh/chart": "x"}, "every version"),
    ("Deployment", f"{BOX}.name", "agent", "named operator"),
    ("Deployment", f"{BOX}.args", ["serve"], "run"),
    ("Deployment", f"{BOX}.readinessProbe.exec.command", ["true"], "readinessProbe"),
    ("Deployment", f"{BOX}.startupProbe", FORGET, "startupProbe"),
    ("Deployment", f"{BOX}.securityContext.readOnlyRootFilesystem", FORGET, "root file system"),
    ("Deployment", f"{BOX}.resources.limits.cpu", "1", "CPU"),
    ("Deployment", f"{BOX}.env.1.name", "POD_NAMESPACE", "given twice"),
    ("Deployment", f"{BOX}.volumeMounts.1.subPath", "apiKey", "subPath"),
    ("Deployment", f"{BOX}.volumeMounts.1.readOnly", FORGET, "written to"),
    ("Deployment", f"{BOX}.volumeMounts.1.name", "other", "differ"),
    ("Deployment", f"{POD}.volumes.1.secret.optional", False, "API key"),
    ("Deployment", f"{POD}.volumes.1.secret.items.0.path", "key", "API key"),
    ("Deployment", f"{POD}.serviceAccountName", "default", "pods run as"),
    ("Deployment", f"{POD}.automountServiceAccountToken", False, "mounted 0 times"),
    ("Deployment", "metadata.namespace", FORGET, "in namespace None"),
    ("ServiceAccount", "automountServiceAccountToken", True, "hands its token"),
    ("ServiceAccount", "metadata.name", "other", "no pod runs as"),
    ("ClusterRole", "metadata.name", "kube9-operator", "two namespaces"),
    ("Role", "metadata.labels", {"app.kubernetes.io/name": "x"}, "no labels"),
    ("Pod", "metadata.labels", {"app.kubernetes.io/name": "kube9-operator"}, "take it for the agent"),
]
SCHEMAS = [
    ("Deployment", "spec.replica", 1, "replica"),
    ("Deployment", f"{BOX}.env.0.valueFrom.fieldRef.path", "x", "path"),
    ("Deployment", "spec.replicas", "one", "one"),
    ("Deployment", "apiVersion", "apps/v1beta1", "schema"),
    ("ClusterRole", "rules.0.verb", ["list"], "verb"),
]
BLANKS = [
    ("Deployment", f"{BOX}.env", [], "env is empty"),
    ("Deployment", f"{POD}.nodeSelector", None, "nodeSelector is empty"),
    ("Deployment", f"{BOX}.env.1.value", "", "value is empty"),
    ("Deployment", f"{POD}.affinity", {}, "affinity is empty"),
]
# (name, check, what is replaced in the text, by what, word of the message)
TEXTS = [
    ("rbac", rbac.problems, "  # Sync: readiness and capacity of the nodes.\n", "", "without a comment"),
    ("rbac", rbac.problems, "# Sync: readiness and capacity of the nodes.", "# Nodes.", "without a comment"),
    ("blanks", blanks.problems, "type: Recreate", "type: <no value>", "<no value>"),
    ("blanks", blanks.problems, "type: Recreate", "type: <nil>", "<nil>"),
    ("blanks", blanks.problems, "type: Recreate", "type: map[a:b]", "map["),
    ("blanks", blanks.problems, "type: Recreate", "type: '%!s(int=1)'", "%!s("),
    ("blanks", blanks.problems, "type: Recreate", "type: '{{ x }}'", "{{"),
]
# (what is replaced in values.yaml, by what, word of the message)
VALUES = [
    ("# How much is logged: off, error, warn, info or debug.\n", "", "logLevel has no sentence"),
    ("logLevel: info", "logLevel: warn", "no longer true"),
    ("logLevel: info", "logLevels: info", "logLevels is missing"),
    ("# What the server is told. A real name is never in it, whatever is set here.\n", "", "privacy has no sentence"),
    ("  # Base URL; https only, but for a loopback host.\n", "", "server.url has no sentence"),
    ("\napiKey:", "\napiKeys:", "not in the table"),
]


def run(path, release, namespace, chart):
    """(name, whether the check found it, what it said instead) of every case."""
    good = manifests.load(path)
    checks = {
        "pod-security": (POD_SECURITY, pod_security.problems),
        "rbac": (RBAC, rbac.problems),
        "contract": (CONTRACT, lambda rendered: contract.problems(rendered, release, namespace)),
        "schemas": (SCHEMAS, lambda rendered: schemas.problems(rendered, schemas.versions()[0])),
        "blanks": (BLANKS, blanks.problems),
    }
    for name, (cases, check) in checks.items():
        for kind, place, value, word in cases:
            bad = manifests.Manifests(good.text, copy.deepcopy(good.docs))
            put(bad.of(kind)[0], place.split("."), value)
            shown = "nothing" if value is FORGET else value
            yield verdict(f"{name} refuses {kind} {place}: {shown}", list(check(bad)), word)
    for name, check, old, new, word in TEXTS:
        yield verdict(f"{name} refuses {new or 'nothing'} for {old}", list(check(replaced(good.text, old, new))), word)
    yield verdict("blanks refuses no object", list(blanks.problems(manifests.parse("# nothing\n"))), "nothing")
    yield verdict("a key given twice is refused", twice(), "given twice")
    for old, new, word in VALUES:
        text = (chart / "values.yaml").read_text(encoding="utf-8")
        yield verdict(f"values refuses {new or 'nothing'} for {old}", list(of_values(chart, text, old, new)), word)
    rights = list(values.of_rights("The agent may list nodes.", good))
    yield verdict("rights refuses a README that is silent about pods", rights, " pods")


def verdict(name, found, word):
    """A check has to find the very thing, not just anything."""
    return " ".join(name.split()), any(word in problem for problem in found), found


def put(doc, place, value):
    """Puts a value at a path, or forgets what is there."""
    *way, last = place
    for step in way:
        doc = doc[int(step)] if isinstance(doc, list) else doc.setdefault(step, {})
    if value is FORGET:
        del doc[last]
    else:
        doc[int(last) if isinstance(doc, list) else last] = value


def replaced(text, old, new):
    """The manifests with one place of the text replaced, which has to be there."""
    if old not in text:
        raise ValueError(f"not in the manifests: {old}")
    return manifests.parse(text.replace(old, new, 1))


def of_values(chart, text, old, new):
    """What the checks of the values say when values.yaml is another one."""
    if old not in text:
        raise ValueError(f"not in values.yaml: {old}")
    yield from values.of_texts(
        text.replace(old, new, 1),
        (chart / "values.schema.json").read_text(encoding="utf-8"),
        (chart / "README.md").read_text(encoding="utf-8"),
    )


def twice():
    """What the parser says to a key given twice."""
    try:
        manifests.parse("a: 1\na: 2\n")
    except manifests.yaml.YAMLError as error:
        return [str(error)]
    return []
