"""The cluster files are what Ray and the command line accept."""

from __future__ import annotations

import importlib.util
import json
import os
import shlex
from pathlib import Path

import pytest

from sweeps import cli_sweep, grid

yaml = pytest.importorskip("yaml", reason="NO YAML: pip install pyyaml")


def test_the_launchers_file_fits_rays_own_schema(root: Path) -> None:
    jsonschema = pytest.importorskip("jsonschema", reason="NO JSONSCHEMA: pip install jsonschema")
    ray = importlib.util.find_spec("ray")
    if ray is None or ray.origin is None:
        pytest.skip("RAY IS NOT INSTALLED: its schema of cluster files is not there")
    schema = json.loads((Path(ray.origin).parent / "autoscaler" / "ray-schema.json").read_text())
    said = yaml.safe_load((root / "docs" / "cluster" / "cluster.yaml").read_text())
    jsonschema.validate(said, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**said, "max_worker": 4}, schema)
    types = said["available_node_types"]
    assert said["head_node_type"] in types
    assert sum(kind.get("max_workers", 0) for kind in types.values()) <= said["max_workers"]


def sweeps_in(text: str) -> list[list[str]]:
    """Return the arguments of every `fencelab sweep` in a text."""
    lines = text.replace("\n", " ").split("fencelab sweep ")[1:]
    return [shlex.split(line.split("`")[0].split("runtimeEnvYAML")[0]) for line in lines]


def test_the_commands_are_ones(root: Path) -> None:
    folder = root / "docs" / "cluster"
    for path in folder.iterdir():
        text = "\n".join(line.lstrip("# ") for line in path.read_text().splitlines())
        for arguments in sweeps_in(text):
            cut = arguments[:next((at for at, word in enumerate(arguments)
                                   if word.endswith(":") or "=" in word), len(arguments))]
            context = cli_sweep.sweep.make_context("sweep", cut)
            assert context.params["executor"] == "ray"
            assert context.params["address"]
            assert grid.questions(context.params["name"])


TEXT, NUMBER, YES = {"type": "string"}, {"type": "integer"}, {"type": "boolean"}
ANY = {"type": "object"}
PARAMS = {"type": "object", "additionalProperties": TEXT}


def strict(required: str, **fields: object) -> dict[str, object]:
    """Return the schema of an object that has these fields and no other."""
    return {"type": "object", "additionalProperties": False, "properties": fields,
            "required": required.split()}


WORKERS = strict(
    "groupName minReplicas maxReplicas rayStartParams template", groupName=TEXT, replicas=NUMBER,
    minReplicas=NUMBER, maxReplicas=NUMBER, numOfHosts=NUMBER, rayStartParams=PARAMS,
    template=ANY, scaleStrategy=ANY)
CLUSTER = strict(
    "headGroupSpec", rayVersion=TEXT, enableInTreeAutoscaling=YES, suspend=YES,
    autoscalerOptions=ANY, headServiceAnnotations=PARAMS,
    headGroupSpec=strict("rayStartParams template", serviceType=TEXT, enableIngress=YES,
                         headService=ANY, rayStartParams=PARAMS, template=ANY),
    workerGroupSpecs={"type": "array", "items": WORKERS})
JOB = strict(
    "apiVersion kind metadata spec", apiVersion={"const": "ray.io/v1"}, kind={"const": "RayJob"},
    metadata=strict("name", name=TEXT, namespace=TEXT), spec=strict(
        "entrypoint rayClusterSpec", entrypoint=TEXT, runtimeEnvYAML=TEXT, jobId=TEXT,
        submissionMode={"enum": ["K8sJobMode", "HTTPMode", "InteractiveMode"]},
        entrypointResources=TEXT, entrypointNumCpus={"type": "number"}, suspend=YES,
        activeDeadlineSeconds=NUMBER, backoffLimit=NUMBER, shutdownAfterJobFinishes=YES,
        ttlSecondsAfterFinished=NUMBER, clusterSelector=PARAMS, rayClusterSpec=CLUSTER))
"""What a RayJob may say around its pods: names, types and what is required, as KubeRay's
helm-chart/kuberay-operator/crds/ray.io_rayjobs.yaml has them for v1 (037e91b), of the modes those
of ray-operator/apis/ray/v1/rayjob_types.go. Fields that later versions added are not used."""
CRD = "FENCELAB_RAYJOB_CRD"
"""In the environment: KubeRay's own definition of a RayJob, that file, to be asked as well."""


def job_text(root: Path) -> str:
    return (root / "docs" / "cluster" / "rayjob.yaml").read_text()


def refused(text: str, schema: object, *changes: tuple[str, str]) -> None:
    """Prove that a schema takes the text, and refuses it with any of these changes."""
    jsonschema = pytest.importorskip("jsonschema", reason="NO JSONSCHEMA: pip install jsonschema")
    jsonschema.validate(yaml.safe_load(text), schema)
    for right, wrong in changes:
        assert right in text
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(yaml.safe_load(text.replace(right, wrong)), schema)


AROUND_PODS = (("minReplicas:", "minReplica:"), ("entrypoint:", "entryPoint:"), ('"0"', "0"),
               ("rayClusterSpec:", "rayCluster:"), ("replicas: 2", 'replicas: "2"'))


def test_the_job_has_the_fields_of_a_rayjob_and_no_other(root: Path) -> None:
    refused(job_text(root), JOB, *AROUND_PODS, ("K8sJobMode", "K8SJobMode"))
    for group in yaml.safe_load(job_text(root))["spec"]["rayClusterSpec"]["workerGroupSpecs"]:
        assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]


IN_PODS = (("image:", "Image:"), ("mountPath: /", "path: /"), ("claimName:", "claim:"),
           ("- name: ray-head", "- name: 3"))


def pods(text: str) -> list[dict[str, object]]:
    """Return the pods that a job's cluster is made of."""
    cluster = yaml.safe_load(text)["spec"]["rayClusterSpec"]
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    return [{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "pod"}, **group["template"]}
            for group in groups]


@pytest.mark.parametrize("which", [0, -1], ids=["oldest", "newest"])
def test_the_jobs_pods_are_ones_to_kubernetes(root: Path, which: int) -> None:
    kubernetes = pytest.importorskip(
        "kubernetes_validate", reason="NO SCHEMAS OF KUBERNETES: pip install kubernetes-validate")
    version = kubernetes.utils.all_versions()[which]

    def ask(text: str) -> list[str]:
        return [kubernetes.validate(pod, version, strict=True) for pod in pods(text)]

    text = job_text(root)
    assert ask(text) == [kubernetes.utils.major_minor(version)] * 2
    for right, wrong in IN_PODS:
        assert right in text
        with pytest.raises(kubernetes.ValidationError):
            ask(text.replace(right, wrong))


def closed(schema: object) -> object:
    """Return a schema that refuses fields it does not name, as an API server does when asked to."""
    if isinstance(schema, list):
        return [closed(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    made = {name: closed(one) for name, one in schema.items()}
    if isinstance(schema.get("properties"), dict) and schema.get("type") == "object" \
            and not schema.get("x-kubernetes-preserve-unknown-fields"):
        made.setdefault("additionalProperties", False)
    return made


def test_the_job_fits_kuberays_own_definition(root: Path) -> None:
    if CRD not in os.environ:
        pytest.skip(f"NO {CRD}: KubeRay's own definition of a RayJob is not asked")
    definition = yaml.safe_load(Path(os.environ[CRD]).read_text())
    assert definition["spec"]["names"]["kind"] == "RayJob"
    schema = next(one["schema"]["openAPIV3Schema"] for one in definition["spec"]["versions"]
                  if one["name"] == "v1")
    refused(job_text(root), closed(schema), *AROUND_PODS, *IN_PODS)


def test_the_job_names_one_ray_everywhere(root: Path) -> None:
    job = yaml.safe_load(job_text(root))
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    cluster = job["spec"]["rayClusterSpec"]
    version = cluster["rayVersion"]
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    for group in groups:
        for container in group["template"]["spec"]["containers"]:
            assert container["image"] == f"rayproject/ray:{version}-py311"
            assert container["resources"]["requests"] == container["resources"]["limits"]
        assert all(isinstance(value, str) for value in group["rayStartParams"].values())
    mounts = groups[0]["template"]["spec"]["containers"][0]["volumeMounts"]
    folder = next(mount["mountPath"] for mount in mounts)
    assert f"--store {folder}/" in job["spec"]["entrypoint"]
    assert yaml.safe_load(job["spec"]["runtimeEnvYAML"]) == {"pip": ["fencelab"]}
    launcher = (root / "docs" / "cluster" / "cluster.yaml").read_text()
    assert launcher.count(f"=={version}'") == 2
