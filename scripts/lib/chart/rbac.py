"""What the agent may do: read what it lists, write its own ConfigMaps, nothing else, each rule with its reason."""

import yaml

READ = {"get", "list", "watch"}
OWN = {"create", "delete", "get", "patch"}
# What the agent may take away again, of what it wrote.
PASSING = ["kube9-ai-recommendations"]


def problems(manifests):
    """Every right that is wider than the agent needs, every rule without a reason, every binding to nothing."""
    for role in manifests.of("ClusterRole"):
        if role.get("aggregationRule"):
            yield f"{title(role)}: is aggregated from roles unknown here"
        for rule in role.get("rules") or []:
            yield from of_rule(role, rule, READ)
            if rule.get("nonResourceURLs"):
                yield f"{title(role)}: names URLs"
    for role in manifests.of("Role"):
        for rule in role.get("rules") or []:
            yield from of_rule(role, rule, OWN)
            if rule.get("resources") != ["configmaps"] or rule.get("apiGroups") != [""]:
                yield f"{title(role)}: is about more than configmaps: {rule}"
            if set(rule.get("verbs") or []) != {"create"} and not rule.get("resourceNames"):
                yield f"{title(role)}: reaches configmaps that are not the agent's: {rule}"
            if "delete" in (rule.get("verbs") or []) and rule.get("resourceNames") != PASSING:
                yield f"{title(role)}: may delete what must stay: {rule}"
    yield from of_bindings(manifests)
    yield from of_comments(manifests.text)


def of_rule(role, rule, verbs):
    """A rule's verbs and resources."""
    for key in ("apiGroups", "resources", "verbs", "nonResourceURLs"):
        if any("*" in value for value in rule.get(key) or []):
            yield f"{title(role)}: wildcard in {key}: {rule[key]}"
    for verb in set(rule.get("verbs") or []) - verbs:
        yield f"{title(role)}: verb {verb} on {rule.get('resources')}"
    for resource in rule.get("resources") or []:
        if resource == "secrets" or "/" in resource:
            yield f"{title(role)}: resource {resource}"


def of_bindings(manifests):
    """A binding is to a role of the chart, for a service account of the release's namespace."""
    for kind in ("ClusterRole", "Role"):
        roles = {role["metadata"]["name"] for role in manifests.of(kind)}
        for binding in manifests.of(f"{kind}Binding"):
            reference = binding["roleRef"]
            if reference["kind"] != kind or reference["name"] not in roles:
                yield f"{title(binding)}: binds {reference['kind']} {reference['name']}, which is not the chart's"
            accounts = {spec.get("serviceAccountName") for _, _, spec in manifests.pods()}
            for subject in binding["subjects"]:
                if subject["kind"] != "ServiceAccount" or subject["name"] not in accounts:
                    yield f"{title(binding)}: is for {subject['kind']} {subject['name']}, under which no pod runs"


def of_comments(text):
    """A rule without a comment right above it; a comment of a word or two names no reason."""
    lines = text.splitlines()
    for document in yaml.compose_all(text):
        if not isinstance(document, yaml.MappingNode):
            continue
        top = {key.value: value for key, value in document.value}
        if top["kind"].value in ("ClusterRole", "Role"):
            for rule in top["rules"].value:
                above = lines[rule.start_mark.line - 1].strip()
                if not above.startswith("#") or len(above.split()) < 4:
                    yield f"line {rule.start_mark.line + 1}: a rule without a comment that names what uses it"


def title(doc):
    """Kind and name, for messages."""
    return f"{doc['kind']} {doc['metadata']['name']}"
