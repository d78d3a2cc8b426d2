"""Whether docker/ and docs/ fit together, and fit the code: names of services, files, variables, metrics and sections.

Prints everything that does not fit, and ends with 1 if there is anything.
"""

import itertools
import json
import re
import sys
from pathlib import Path

import promql_parser
import yaml

ROOT = Path(__file__).resolve().parent.parent
DOCKER = ROOT / "docker"
GUIDE = ROOT / "docs/PRODUCTION.md"
CONFIG = ROOT / "crates/app/src/config"
# Variables that something else than the configuration reads.
OTHERS_VARIABLES = re.compile(r"OTEL_[A-Z_]+")
VARIABLE = re.compile(
    r"\b(?:ATELIER|AWS|BLOB|CF_ACCESS|CLIENT|COMFYUI|DATABASE|GDOC|GOOGLE|MINIO|OTEL|RUST|SUPABASE)_[A-Z0-9_]+\b"
)

findings: list[str] = []


def complain(place: Path | str, text: str) -> None:
    name = place.relative_to(ROOT) if isinstance(place, Path) else place
    findings.append(f"{name}: {text}")


def documents(path: Path) -> list[dict]:
    return [document for document in yaml.safe_load_all(path.read_text()) if document]


def source_text() -> str:
    """The code of the server, without its tests: what is only named there is no variable and no metric."""
    folders = (ROOT / "crates/app/src", ROOT / "crates/local-postgres/src")
    files = sorted(file for folder in folders for file in folder.rglob("*.rs"))
    return "\n".join(file.read_text().split("#[cfg(test)]")[0] for file in files)


def check_compose() -> None:
    base = documents(DOCKER / "compose.yaml")[0]
    for path in sorted(DOCKER.glob("compose*.yaml")):
        added = documents(path)[0]
        whole = {key: {**base.get(key, {}), **added.get(key, {})} for key in ("services", "networks", "volumes", "secrets", "configs")}
        for name, service in added["services"].items():
            place = f"docker/{path.name}: {name}"
            for other in service.get("depends_on", {}):
                if other not in whole["services"]:
                    complain(place, f"depends on `{other}`, which is no service")
            for kind in ("secrets", "configs", "networks"):
                for used in service.get(kind, []):
                    used = used["source"] if isinstance(used, dict) else used
                    if used not in whole[kind]:
                        complain(place, f"uses `{used}`, which is none of the {kind}")
            for mount in service.get("volumes", []):
                if (volume := mount.split(":")[0]) not in whole["volumes"]:
                    complain(place, f"mounts `{volume}`, which is no volume")
            if name in base["services"] and path.name != "compose.yaml":
                service = {**base["services"][name], **service}
            if service.get("restart") and "healthcheck" not in service and "build" not in service:
                complain(place, "has no health check; only Atelier's image brings its own")
        for name, config in added.get("configs", {}).items():
            if not (DOCKER / config["file"]).is_file():
                complain(path, f"the file of config `{name}` is missing")
    written = set(re.findall(r"\| keep (\w+)", (DOCKER / "make-secrets").read_text()))
    for name in base["secrets"].keys() - written:
        complain(DOCKER / "make-secrets", f"does not write the secret `{name}`")
    for name in written - base["secrets"].keys():
        complain(DOCKER / "make-secrets", f"writes `{name}`, which compose.yaml does not use")


def check_kubernetes() -> None:
    folder = DOCKER / "kubernetes"
    kustomization = documents(folder / "kustomization.yaml")[0]
    for name in kustomization["resources"]:
        if not (folder / name).is_file():
            complain(folder / "kustomization.yaml", f"names {name}, which is missing")
    everything = [
        (path, document) for path in sorted(folder.glob("*.yaml")) for document in documents(path)
    ]
    pods = [
        (path, document["spec"]["template"])
        for path, document in everything
        if document["kind"] in ("Deployment", "StatefulSet", "Job")
    ]
    secrets = {d["metadata"]["name"]: set(d["stringData"]) for _, d in everything if d["kind"] == "Secret"}
    for path, document in everything:
        spec = document.get("spec", {})
        selector = spec.get("selector") or spec.get("podSelector") or {}
        wanted = selector.get("matchLabels", selector if document["kind"] == "Service" else {})
        if wanted and not any(wanted.items() <= pod["metadata"]["labels"].items() for _, pod in pods):
            complain(path, f"{document['kind']} {document['metadata']['name']} selects no pod")
        if target := spec.get("scaleTargetRef"):
            if not any(
                d["kind"] == target["kind"] and d["metadata"]["name"] == target["name"] for _, d in everything
            ):
                complain(path, f"scales {target['kind']} {target['name']}, which is not there")
    for path, pod in pods:
        mounted = {
            volume["name"]: secrets.get(volume["secret"]["secretName"], set())
            for volume in pod["spec"].get("volumes", [])
            if "secret" in volume
        }
        for container in pod["spec"]["containers"]:
            if not container["image"].startswith("atelier:"):
                continue
            security = container["securityContext"]
            if not security["readOnlyRootFilesystem"] or security["capabilities"]["drop"] != ["ALL"]:
                complain(path, f"the container {container['name']} may do more than it must")
            values = [entry.get("value", "") for entry in container["env"]]
            if "envFrom" in container:
                values += documents(folder / "config.yaml")[0]["data"].values()
            for mount in container["volumeMounts"]:
                if mount["name"] not in mounted:
                    continue
                for value in values:
                    if value.startswith(mount["mountPath"] + "/") and Path(value).name not in mounted[mount["name"]]:
                        complain(path, f"{container['name']} reads {value}, which the secret does not have")


def check_dashboard() -> list[str]:
    path = DOCKER / "grafana/atelier.json"
    dashboard = json.loads(path.read_text())
    panels = dashboard["panels"]
    if len({panel["id"] for panel in panels}) != len(panels):
        complain(path, "two panels have the same id")
    for panel in panels:
        place = panel["gridPos"]
        if place["x"] + place["w"] > 24:
            complain(path, f"`{panel['title']}` is wider than the page")
        if panel["type"] != "row" and not (panel.get("description") and panel.get("targets")):
            complain(path, f"`{panel['title']}` has no description or asks nothing")
    for one, other in itertools.combinations(panels, 2):
        a, b = one["gridPos"], other["gridPos"]
        if a["x"] < b["x"] + b["w"] and b["x"] < a["x"] + a["w"] and a["y"] < b["y"] + b["h"] and b["y"] < a["y"] + a["h"]:
            complain(path, f"`{one['title']}` and `{other['title']}` lie over each other")
    return [target["expr"] for panel in panels for target in panel.get("targets", [])]


def expressions() -> list[tuple[str, str]]:
    found = [("docker/grafana/atelier.json", expression) for expression in check_dashboard()]
    for group in documents(DOCKER / "alerts.yml")[0]["groups"]:
        found += [("docker/alerts.yml", rule["expr"]) for rule in group["rules"]]
    for document in documents(DOCKER / "kubernetes/keda.yaml"):
        found += [("docker/kubernetes/keda.yaml", trigger["metadata"]["query"]) for trigger in document["spec"]["triggers"]]
    return found


def metrics() -> tuple[set[str], set[str]]:
    """The metrics by the names that the guide has for them, and the series of the histograms among them."""
    source = "\n".join(
        file.read_text().split("#[cfg(test)]")[0] for file in sorted((ROOT / "crates/app/src/telemetry").rglob("*.rs"))
    )
    kinds = dict(re.findall(r"^    (\w+): (.+),$", source, re.MULTILINE))
    known, series = set(), set()
    for name in re.findall(r'"(atelier_[a-z0-9_]+)"', source):
        registered = re.search(rf'"{name}",\s*"[^"]*",\s*(?:self\.(\w+)|(Info))', source)
        kind = (kinds[registered[1]] if registered[1] else registered[2]) if registered else "Gauge"
        if "Histogram" in kind:
            series |= {f"{name}_{part}" for part in ("bucket", "count", "sum")}
        known.add(name + ("_total" if "Counter" in kind else "_info" if kind == "Info" else ""))
    return known, series


def check_metrics() -> None:
    known, parts = metrics()
    used: set[str] = set()
    for place, expression in expressions():
        try:
            promql_parser.parse(expression.replace("$__rate_interval", "5m"))
        except ValueError as error:
            complain(place, f"`{expression}` is no PromQL: {error}")
        names = set(re.findall(r"\batelier_[a-z0-9_]+", expression))
        used |= names
        for name in names - known - parts:
            complain(place, f"there is no metric `{name}`")
    section = GUIDE.read_text().split("## Monitoring", 1)[1].split("\n## ", 1)[0]
    rows = [line.split(" | ")[0] for line in section.splitlines() if line.startswith("| `")]
    told = {name for row in rows for name in re.findall(r"`(atelier_[a-z0-9_]+)[`{]", row)}
    for name in told - known:
        complain(GUIDE, f"there is no metric `{name}`")
    for name in known - told:
        complain(GUIDE, f"does not tell of the metric `{name}`")


def check_variables(source: str) -> None:
    config = "\n".join(file.read_text().split("#[cfg(test)]")[0] for file in sorted(CONFIG.rglob("*.rs")))
    known = set(re.findall(rf'"({VARIABLE.pattern})"', source)) | set(re.findall(rf'"({VARIABLE.pattern})"', config))
    by_file = {f"{name}_FILE" for name in known}

    def check_use(place: Path, names: set[str]) -> None:
        for name in sorted(names - known - by_file):
            if not OTHERS_VARIABLES.fullmatch(name):
                complain(place, f"there is no variable `{name}`")

    guide = GUIDE.read_text()
    table = guide.split("## Every variable", 1)[1]
    told = {name for line in table.splitlines() if line.startswith("| `") for name in VARIABLE.findall(line.split(" | ")[0])}
    check_use(GUIDE, told)
    for name in sorted(known - told):
        complain(GUIDE, f"does not tell of the variable `{name}`")
    for path in sorted(DOCKER.rglob("*.yaml")):
        names: set[str] = set()
        for document in documents(path):
            pods = [document.get("spec", {}).get("template", {}).get("spec", {})]
            for container in (c for pod in pods for c in pod.get("containers", [])):
                if container["image"].startswith("atelier:"):
                    names |= {entry["name"] for entry in container["env"]}
            if document.get("kind") == "ConfigMap":
                names |= set(document["data"])
            for name, service in document.get("services", {}).items():
                if name in ("api", "worker", "migrate"):
                    names |= set(service.get("environment", {}))
        check_use(path, names)


def anchors(path: Path) -> set[str]:
    text = re.sub(r"```.*?```", "", path.read_text(), flags=re.DOTALL)
    titles = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def check_links() -> None:
    for path in (ROOT / "README.md", ROOT / "ARCHITECTURE.md", *sorted((ROOT / "docs").glob("*.md"))):
        text = re.sub(r"```.*?```", "", path.read_text(), flags=re.DOTALL)
        for link in re.findall(r"\]\(([^)]+)\)", text):
            if re.match(r"https?://", link):
                continue
            target, _, anchor = link.partition("#")
            file = (path.parent / target).resolve() if target else path
            if not file.exists():
                complain(path, f"links to {link}, which is missing")
            elif anchor and file.suffix == ".md" and anchor not in anchors(file):
                complain(path, f"links to {link}, which has no such section")


def main() -> int:
    source = source_text()
    check_compose()
    check_kubernetes()
    check_metrics()
    check_variables(source)
    check_links()
    for finding in findings:
        print(finding)
    print("fits" if not findings else f"{len(findings)} things do not fit")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
