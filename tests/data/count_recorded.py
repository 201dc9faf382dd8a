#!/usr/bin/env python3
"""Count the recorded cluster by hand, so the agent's own numbers have something to be compared with.

This is a second, independent reading of the metrics body and of the dashboard. It shares no code with the
agent, aims at being easy to check by eye rather than fast, and keeps the real names as keys (a namespace's
name, "deployment/api"), because opaque ids would hide which figure is wrong.

    python3 tests/data/count_recorded.py crates/kube-sim/recorded [OUTPUT]

The directory holds one answer of the API server per collection, either plain JSON (`pods.json`,
`102-list-pods.json`) or with its head (`102-list-pods.response.txt`: status line, headers, empty line, body),
the two lists of metrics.k8s.io (`node-metrics.json`, `pod-metrics.json`, the words `handwritten-` and `-list`
allowed around them) and, where it was kept, the answer of /version. OUTPUT is `recorded-counts.json` beside
this file unless given. What a reader may want to know about the data (owners that do not resolve, Pods the
metrics leave out, and so on) goes to standard error.

Not in the output, because no list says it: clusterId, timestamp, operatorVersion, mapEpoch, payloadVersion,
and the dashboard's operatorMetrics and lastUpdated.
"""

import json
import re
import sys
from fractions import Fraction
from math import ceil, floor
from pathlib import Path

# What is read: the name in the file name, and the kind the body must have.
LISTS = {
    "nodes": "NodeList",
    "namespaces": "NamespaceList",
    "pods": "PodList",
    "deployments": "DeploymentList",
    "statefulsets": "StatefulSetList",
    "daemonsets": "DaemonSetList",
    "replicasets": "ReplicaSetList",
    "jobs": "JobList",
    "cronjobs": "CronJobList",
    "services": "ServiceList",
    "persistentvolumeclaims": "PersistentVolumeClaimList",
    "node-metrics": "NodeMetricsList",
    "pod-metrics": "PodMetricsList",
}

# gitVersion of the server the lists were recorded from, for when its answer to /version is not beside them.
GIT_VERSION = "v1.36.2"

# Where a namespace's counter of a collection stands in the metrics body.
COUNTERS = {
    "deployments": "deployments",
    "statefulsets": "statefulSets",
    "daemonsets": "daemonSets",
    "replicasets": "replicaSets",
    "jobs": "jobs",  # all Jobs, also those of a CronJob
    "cronjobs": "cronJobs",
    "services": "services",
    "persistentvolumeclaims": "persistentVolumeClaims",
    "pods": "pods",
}

# Kind in an ownerReference: (its API group, the word in a workload's key). A ReplicaSet and a Job of a CronJob
# stand for their own owner. A kind not listed here is no workload: its Pods count as bare.
WORKLOADS = {
    "Deployment": ("apps", "deployment"),
    "StatefulSet": ("apps", "statefulset"),
    "DaemonSet": ("apps", "daemonset"),
    "Job": ("batch", "job"),
    "CronJob": ("batch", "cronjob"),
}

PHASES = ("Pending", "Running", "Succeeded", "Failed", "Unknown")
FINISHED = ("Succeeded", "Failed")

PULL_FAILURES = ("ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull")

NOTES = []


def note(text):
    """Say something about the data on standard error at the end."""
    NOTES.append(text)


# --- reading ------------------------------------------------------------------------------------------------


def read_directory(directory):
    """Return {collection: [items]} and the gitVersion of the server."""
    lists = {}
    for name, kind in LISTS.items():
        body = read_body(directory, name)
        if body.get("kind") != kind:
            raise SystemExit(f"{name}: expected a {kind}, found kind {body.get('kind')!r}")
        if body["metadata"].get("continue"):
            raise SystemExit(f"{name}: only a page of the list; the counts would be too low")
        lists[name] = body["items"]
    version = read_body(directory, "version", optional=True)
    return lists, version["gitVersion"] if version else GIT_VERSION


def read_body(directory, name, optional=False):
    """Find the one file that holds `name` and parse its body; None when there is none and it is optional."""
    pattern = re.compile(
        rf"(\d+-)?(handwritten-)?(list-)?{re.escape(name)}(-list)?(\.response\.txt|\.response\.json|\.json)"
    )
    found = sorted(path for path in directory.iterdir() if pattern.fullmatch(path.name))
    if optional and not found:
        return None
    if len(found) != 1:
        raise SystemExit(f"{name}: expected one file in {directory}, found {[p.name for p in found]}")
    text = found[0].read_text(encoding="utf-8")
    if found[0].suffix == ".txt":
        head, _, text = text.partition("\n\n")
        if " 200 " not in head.splitlines()[0]:
            raise SystemExit(f"{found[0].name}: not a 200 answer: {head.splitlines()[0]}")
    return json.loads(text)


# --- quantities ---------------------------------------------------------------------------------------------

SUFFIXES = {
    "n": Fraction(1, 10**9), "u": Fraction(1, 10**6), "m": Fraction(1, 1000), "": Fraction(1),
    "k": Fraction(10**3), "M": Fraction(10**6), "G": Fraction(10**9),
    "T": Fraction(10**12), "P": Fraction(10**15), "E": Fraction(10**18),
    "Ki": Fraction(2**10), "Mi": Fraction(2**20), "Gi": Fraction(2**30),
    "Ti": Fraction(2**40), "Pi": Fraction(2**50), "Ei": Fraction(2**60),
}  # fmt: skip


def quantity(text):
    """A Kubernetes quantity as an exact number of cores or bytes."""
    number = r"([+-]?(?:\d+\.?\d*|\.\d+))"
    suffix = r"(?:[eE]([+-]?\d+)|(n|u|m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei)?)"
    match = re.fullmatch(number + suffix, str(text))
    if not match:
        raise SystemExit(f"not a quantity: {text!r}")
    number, exponent, suffix = match.groups()
    if exponent is not None:
        return Fraction(number) * Fraction(10) ** int(exponent)
    return Fraction(number) * SUFFIXES[suffix or ""]


def whole(resource, text):
    """A quantity of cpu in millicores or of memory in bytes, each quantity rounded up on its own."""
    return ceil(quantity(text) * (1000 if resource == "cpu" else 1))


def percent(part, base):
    """Percentage with one decimal, halves away from zero; None when there is nothing to divide by."""
    if not base:
        return None
    tenths = part / base * 1000
    if tenths - floor(tenths) == Fraction(1, 2):
        note(f"a percentage lies exactly between two decimals: {float(tenths / 10)}")
    return floor(tenths + Fraction(1, 2)) / 10


# --- pods ---------------------------------------------------------------------------------------------------


def long_running(spec):
    """The containers that run for the life of the Pod: spec.containers and the sidecars, that is, init
    containers with restartPolicy Always (KEP-753). Plain init containers and ephemeral ones are neither counted
    in `containers` nor judged."""
    return spec["containers"] + [c for c in spec.get("initContainers", []) if is_sidecar(c)]


def is_sidecar(init_container):
    return init_container.get("restartPolicy") == "Always"


def reserved(spec, which, resource):
    """What one Pod reserves: which is "requests" or "limits", resource "cpu" or "memory".

    As the scheduler reckons (KEP-753): the larger of what the Pod needs once it runs (containers + sidecars) and
    what it needs at its hungriest moment while starting (a plain init container next to the sidecars started
    before it). A value for the whole Pod (spec.resources, KEP-2837) replaces that; spec.overhead comes on top.
    A container without the value counts 0."""

    def of(container):
        return whole(resource, container.get("resources", {}).get(which, {}).get(resource, "0"))

    sidecars = 0
    starting = 0
    for container in spec.get("initContainers", []):
        if is_sidecar(container):
            sidecars += of(container)
            starting = max(starting, sidecars)
        else:
            starting = max(starting, sidecars + of(container))
    running = sum(of(container) for container in spec["containers"]) + sidecars
    total = max(starting, running)

    for_the_pod = spec.get("resources", {}).get(which, {})
    if resource in for_the_pod:
        total = whole(resource, for_the_pod[resource])
    return total + whole(resource, spec.get("overhead", {}).get(resource, "0"))


def statuses(pod):
    """Status of containers and of init containers, plain or sidecar. Ephemeral containers are left out."""
    status = pod["status"]
    return status.get("containerStatuses", []) + status.get("initContainerStatuses", [])


def restarts(pod):
    return sum(status.get("restartCount", 0) for status in statuses(pod))


def condition(thing, kind):
    for one in thing["status"].get("conditions", []):
        if one["type"] == kind:
            return one
    return {}


def controller(thing):
    """The ownerReference with controller: true, or None. Other owners do not matter."""
    for owner in thing["metadata"].get("ownerReferences", []):
        if owner.get("controller"):
            return owner
    return None


def group_of(owner):
    return owner["apiVersion"].rpartition("/")[0]


def workload_of(pod, replicasets, jobs):
    """The key of the workload a Pod counts for, or None when it is bare.

    replicasets and jobs map (namespace, name) to the object; the way up goes through their own ownerReferences
    and never through a name with its end cut off."""
    namespace = pod["metadata"]["namespace"]
    owner = controller(pod)
    if owner is None:
        return None
    if (group_of(owner), owner["kind"]) == ("apps", "ReplicaSet"):
        owner = controller(replicasets.get((namespace, owner["name"]), {"metadata": {}}))
    elif (group_of(owner), owner["kind"]) == ("batch", "Job"):
        above = controller(jobs.get((namespace, owner["name"]), {"metadata": {}}))
        if above and (group_of(above), above["kind"]) == ("batch", "CronJob"):
            owner = above
    group, word = WORKLOADS.get(owner["kind"], (None, None)) if owner else (None, None)
    if word is None or group != group_of(owner):
        note(f"{namespace}/{pod['metadata']['name']}: its controller is no workload of ours; counted as bare")
        return None
    return f"{word}/{owner['name']}"


# --- signals ------------------------------------------------------------------------------------------------


def pod_signals(pod, runs_to_completion):
    """What one Pod shows. Judged from the Pod, not from a template: defaults of a LimitRange are in it.

    Every Pod of the list is judged, finished ones too. A Pod shows a signal when one container does."""
    spec = pod["spec"]
    containers = long_running(spec)
    shown = set()

    # Security. A field of the container hides the same field of the Pod.
    for_the_pod = spec.get("securityContext", {})
    for container in containers:
        own = container.get("securityContext", {})
        if own.get("privileged"):
            shown.add("privileged")
        non_root = own.get("runAsNonRoot", for_the_pod.get("runAsNonRoot"))
        user = own.get("runAsUser", for_the_pod.get("runAsUser"))
        if not (non_root is True or (user is not None and user > 0)):
            shown.add("run-as-root")
        if own.get("allowPrivilegeEscalation") is not False:  # absent means allowed; there is no field on the Pod
            shown.add("privilege-escalation")
    if spec.get("hostNetwork"):
        shown.add("host-network")
    if spec.get("hostPID"):
        shown.add("host-pid")
    if any("hostPath" in volume for volume in spec.get("volumes", [])):
        shown.add("host-path")

    # Resources: a container that does not name the value at all; "0" is a value.
    for container in containers:
        for which in ("request", "limit"):
            for resource in ("cpu", "memory"):
                if resource not in container.get("resources", {}).get(which + "s", {}):
                    shown.add(f"no-{resource}-{which}")

    # Probes: spec.containers alone, and not where a Job runs the Pod. A startup probe is neither.
    if not runs_to_completion:
        for container in spec["containers"]:
            if "livenessProbe" not in container:
                shown.add("no-liveness-probe")
            if "readinessProbe" not in container:
                shown.add("no-readiness-probe")

    if any(is_mutable(container["image"]) for container in containers):
        shown.add("mutable-image-tag")

    # State: init containers included, a Pod may well hang in one.
    for status in statuses(pod):
        reason = status.get("state", {}).get("waiting", {}).get("reason")
        if reason == "CrashLoopBackOff":
            shown.add("crash-looping")
        if reason in PULL_FAILURES:
            shown.add("image-pull-failing")
        for state in ("state", "lastState"):
            if status.get(state, {}).get("terminated", {}).get("reason") == "OOMKilled":
                shown.add("oom-killed")
    scheduled = condition(pod, "PodScheduled")
    if scheduled.get("status") == "False" and scheduled.get("reason") == "Unschedulable":
        shown.add("unschedulable")
    return shown


def is_mutable(image):
    """No digest, and no tag or the tag `latest`. A colon before the last slash belongs to a registry's port."""
    if "@" in image:
        return False
    _, _, tag = image.rpartition("/")[2].partition(":")
    return tag in ("", "latest")


# --- workloads ----------------------------------------------------------------------------------------------


def workloads_of(lists, namespace):
    """{key: (replicas wanted, replicas ready)} of a namespace. Counters absent from a status are 0."""

    def of(collection):
        return [(o["metadata"]["name"], o["spec"], o["status"]) for o in in_namespace(lists[collection], namespace)]

    found = {}
    for name, spec, status in of("deployments"):
        found[f"deployment/{name}"] = (spec["replicas"], status.get("readyReplicas", 0))
    for name, spec, status in of("statefulsets"):
        found[f"statefulset/{name}"] = (spec["replicas"], status.get("readyReplicas", 0))
    for name, _, status in of("daemonsets"):
        found[f"daemonset/{name}"] = (status.get("desiredNumberScheduled", 0), status.get("numberReady", 0))
    for name, _, _ in of("cronjobs"):
        found[f"cronjob/{name}"] = (0, 0)
    for job in in_namespace(lists["jobs"], namespace):
        owner = controller(job)
        if not (owner and (group_of(owner), owner["kind"]) == ("batch", "CronJob")):
            ready = job["status"].get("ready", 0)
            found[f"job/{job['metadata']['name']}"] = (job["spec"]["parallelism"], ready)
    return found


def workload_signals(key, wanted, ready, pods):
    """A workload shows what any of its Pods shows, and two signals of its own. Without Pods there is nothing to
    judge but these two."""
    kind = key.partition("/")[0]
    runs_to_completion = kind in ("job", "cronjob")
    shown = set()
    for pod in pods:
        shown |= pod_signals(pod, runs_to_completion)
    if kind in ("deployment", "statefulset") and wanted == 1:
        shown.add("single-replica")
    if not runs_to_completion and wanted > ready:
        shown.add("not-ready")
    return shown


def bare_signals(pod):
    """A bare Pod: its own, and not-ready when it is Running without its Ready condition being True."""
    shown = pod_signals(pod, runs_to_completion=False)
    if pod["status"].get("phase") == "Running" and condition(pod, "Ready").get("status") != "True":
        shown.add("not-ready")
    return shown


# --- the two bodies -----------------------------------------------------------------------------------------


def in_namespace(items, namespace):
    return [item for item in items if item["metadata"]["namespace"] == namespace]


def count_namespace(lists, namespace, with_metrics):
    pods = in_namespace(lists["pods"], namespace)
    replicasets = by_name(lists["replicasets"])
    jobs = by_name(lists["jobs"])

    entry = {counter: len(in_namespace(lists[name], namespace)) for name, counter in COUNTERS.items()}

    entry["podsByPhase"] = {phase.lower(): 0 for phase in PHASES}
    for pod in pods:
        phase = pod["status"].get("phase")
        entry["podsByPhase"][(phase if phase in PHASES else "Unknown").lower()] += 1

    entry["containers"] = sum(len(long_running(pod["spec"])) for pod in pods)
    entry["containerRestarts"] = sum(restarts(pod) for pod in pods)

    # A finished Pod holds nothing any more; a Pending one does, scheduled or not.
    unfinished = [pod for pod in pods if pod["status"].get("phase") not in FINISHED]
    for resource, unit in (("cpu", "Millicores"), ("memory", "Bytes")):
        for which in ("Requests", "Limits"):
            total = sum(reserved(pod["spec"], which.lower(), resource) for pod in unfinished)
            entry[f"{resource}{which}{unit}"] = total

    # Usage of all Pods the metrics know, also of those that request nothing, over the requests of all Running
    # Pods, also of those the metrics leave out. The usage is exact: nothing is rounded before the percentage.
    running = [pod for pod in pods if pod["status"].get("phase") == "Running"]
    for resource, name in (("cpu", "avgCpuUsage"), ("memory", "avgMemoryUsage")):
        used = sum(pod_usage(metrics, resource) for metrics in in_namespace(lists["pod-metrics"], namespace))
        requested = sum(reserved(pod["spec"], "requests", resource) for pod in running)
        entry[name] = percent(used, requested) if with_metrics else None

    owned = {}
    bare = []
    for pod in pods:
        key = workload_of(pod, replicasets, jobs)
        if key is None:
            bare.append(pod)
        else:
            owned.setdefault(key, []).append(pod)

    entry["workloads"] = {}
    shown = [bare_signals(pod) for pod in bare]
    for key, (wanted, ready) in workloads_of(lists, namespace).items():
        mine = owned.pop(key, [])
        signals = workload_signals(key, wanted, ready, mine)
        shown.append(signals)
        entry["workloads"][key] = {
            "replicas": wanted,
            "readyReplicas": ready,
            "containers": sum(len(long_running(pod["spec"])) for pod in mine),  # over all its Pods
            "restarts": sum(restarts(pod) for pod in mine),
            "signals": sorted(signals),
        }
    if owned:
        raise SystemExit(f"{namespace}: Pods of workloads that are in no list: {sorted(owned)}")

    # How many workloads and bare Pods show each signal; a signal nobody shows is absent.
    entry["signals"] = {}
    for signals in shown:
        for signal in signals:
            entry["signals"][signal] = entry["signals"].get(signal, 0) + 1
    return entry


def by_name(items):
    return {(item["metadata"]["namespace"], item["metadata"]["name"]): item for item in items}


def pod_usage(metrics, resource):
    """Usage of one Pod in millicores or bytes, exact."""
    total = sum(quantity(container["usage"][resource]) for container in metrics["containers"])
    return total * 1000 if resource == "cpu" else total


def is_ready(node):
    return condition(node, "Ready").get("status") == "True"


def cluster_usage(lists, resource):
    """Usage over allocatable, both summed over the nodes that have metrics: a node that is silent would
    otherwise count as idle. Nodes the metrics name but the list does not are left out."""
    nodes = {node["metadata"]["name"]: node for node in lists["nodes"]}
    used = allocatable = Fraction(0)
    for metrics in lists["node-metrics"]:
        node = nodes.get(metrics["metadata"]["name"])
        if node is None:
            note(f"metrics of a node that is not listed: {metrics['metadata']['name']}")
            continue
        used += quantity(metrics["usage"][resource])
        allocatable += quantity(node["status"]["allocatable"][resource])
    return percent(used, allocatable)


def capacity(lists, resource):
    """Capacity (not allocatable) of all nodes, ready or not, in millicores or bytes."""
    return sum(whole(resource, node["status"]["capacity"][resource]) for node in lists["nodes"])


def count_metrics(lists, git_version, with_metrics):
    """The parts `cluster` and `resources` of the metrics body."""
    return {
        "cluster": {
            "kubernetesVersion": re.match(r"v?(\d+\.\d+\.\d+)", git_version).group(1),
            "nodes": len(lists["nodes"]),
            "nodesReady": sum(map(is_ready, lists["nodes"])),
            "cpuCapacityMillicores": capacity(lists, "cpu"),
            "memoryCapacityBytes": capacity(lists, "memory"),
            "avgCpuUsage": cluster_usage(lists, "cpu") if with_metrics else None,
            "avgMemoryUsage": cluster_usage(lists, "memory") if with_metrics else None,
        },
        # Every namespace has an entry, an empty one too.
        "resources": {
            namespace["metadata"]["name"]: count_namespace(lists, namespace["metadata"]["name"], with_metrics)
            for namespace in lists["namespaces"]
        },
    }


def count_dashboard(lists, with_metrics):
    workloads = ("deployments", "statefulsets", "daemonsets", "replicasets", "jobs", "cronjobs", "pods")
    cores = Fraction(capacity(lists, "cpu"), 1000)
    tenths_of_gi = floor(Fraction(capacity(lists, "memory") * 10, 2**30) + Fraction(1, 2))
    usage = {"cpuPercent": cluster_usage(lists, "cpu"), "memoryPercent": cluster_usage(lists, "memory")}
    return {
        "namespaceCount": len(lists["namespaces"]),
        # All objects of the cluster: Jobs of CronJobs, empty ReplicaSets and finished Pods included.
        "workloads": {name: len(lists[name]) for name in workloads},
        "nodes": {
            "totalNodes": len(lists["nodes"]),
            "readyNodes": sum(map(is_ready, lists["nodes"])),
            # Cores without a fraction where there is none; memory in Gi, always with one decimal.
            "cpuCapacity": str(cores) if cores.denominator == 1 else str(float(cores)),
            "memoryCapacity": f"{tenths_of_gi // 10}.{tenths_of_gi % 10} Gi",
        },
        "usage": usage if with_metrics else None,
    }


# --- what is odd in the data --------------------------------------------------------------------------------


def check(lists):
    """Stop where the lists do not fit together; note what makes a reading matter."""
    namespaces = {namespace["metadata"]["name"] for namespace in lists["namespaces"]}
    for name in [*COUNTERS, "pod-metrics"]:
        for item in lists[name]:
            if item["metadata"]["namespace"] not in namespaces:
                raise SystemExit(f"{name}: {item['metadata']['name']} is in a namespace that is not listed")

    pods = by_name(lists["pods"])
    metrics = by_name(lists["pod-metrics"])
    for key in metrics:
        if key not in pods:
            note(f"{'/'.join(key)}: has metrics and is not listed; its usage counts for the namespace")
        elif pods[key]["status"].get("phase") != "Running":
            note(f"{'/'.join(key)}: has metrics and does not run; its usage counts for the namespace")
    for key, pod in pods.items():
        name = "/".join(key)
        phase = pod["status"].get("phase")
        spec = pod["spec"]
        if phase == "Running" and key not in metrics:
            note(f"{name}: runs and has no metrics; its requests count, its usage does not")
        if phase in FINISHED:
            note(f"{name}: {phase}; its signals count, its requests do not")
        if phase == "Pending" and not spec.get("nodeName") and not condition(pod, "PodScheduled"):
            note(f"{name}: waits for a node without a PodScheduled condition; not `unschedulable`")
        if spec.get("ephemeralContainers"):
            note(f"{name}: has ephemeral containers, which are left out of everything")
        if spec.get("overhead") or spec.get("resources"):
            note(f"{name}: has overhead or resources for the whole Pod")
        if pod["metadata"].get("deletionTimestamp"):
            note(f"{name}: is being deleted and counts all the same")

        # A kubelet writes down its own sum: ours must be the same.
        for which, values in pod["status"].get("resources", {}).items():
            for resource in ("cpu", "memory"):
                theirs = whole(resource, values.get(resource, "0"))
                if theirs != reserved(spec, which, resource):
                    note(f"{name}: its status says {which} of {theirs} {resource}, the spec something else")


def main(arguments):
    if len(arguments) not in (1, 2):
        raise SystemExit(__doc__)
    lists, git_version = read_directory(Path(arguments[0]))
    output = Path(arguments[1]) if len(arguments) == 2 else Path(__file__).with_name("recorded-counts.json")
    check(lists)
    counts = {
        name: {
            "metrics": count_metrics(lists, git_version, with_metrics),
            "dashboard": count_dashboard(lists, with_metrics),
        }
        for name, with_metrics in (("withMetrics", True), ("withoutMetrics", False))
    }
    output.write_text(json.dumps(counts, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    for text in sorted(set(NOTES)):
        print(text, file=sys.stderr)


if __name__ == "__main__":
    main(sys.argv[1:])
