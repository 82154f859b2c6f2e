"""The cluster files are what Ray and the command line accept."""

from __future__ import annotations

import importlib.util
import json
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
PARAMS = {"type": "object", "additionalProperties": TEXT}


def strict(required: str, **fields: object) -> dict[str, object]:
    """Return the schema of an object that has these fields and no other."""
    return {"type": "object", "additionalProperties": False, "properties": fields,
            "required": required.split()}


CONTAINER = strict(
    "name image", name=TEXT, image=TEXT, env={"type": "array"},
    resources=strict("requests limits", requests=PARAMS, limits=PARAMS),
    volumeMounts={"type": "array", "items": strict("name mountPath", name=TEXT, mountPath=TEXT)})
TEMPLATE = strict("spec", metadata={"type": "object"}, spec=strict(
    "containers", containers={"type": "array", "minItems": 1, "items": CONTAINER},
    volumes={"type": "array", "items": strict("name persistentVolumeClaim", name=TEXT,
             persistentVolumeClaim=strict("claimName", claimName=TEXT))}))
WORKERS = strict(
    "groupName minReplicas maxReplicas rayStartParams template", groupName=TEXT, replicas=NUMBER,
    minReplicas=NUMBER, maxReplicas=NUMBER, numOfHosts=NUMBER, rayStartParams=PARAMS,
    template=TEMPLATE, scaleStrategy={"type": "object"})
CLUSTER = strict(
    "headGroupSpec", rayVersion=TEXT, enableInTreeAutoscaling=YES, suspend=YES,
    autoscalerOptions={"type": "object"}, headServiceAnnotations=PARAMS,
    headGroupSpec=strict("rayStartParams template", serviceType=TEXT, enableIngress=YES,
                         headService={"type": "object"}, rayStartParams=PARAMS, template=TEMPLATE),
    workerGroupSpecs={"type": "array", "items": WORKERS})
JOB = strict(
    "apiVersion kind metadata spec", apiVersion={"const": "ray.io/v1"}, kind={"const": "RayJob"},
    metadata=strict("name", name=TEXT, namespace=TEXT), spec=strict(
        "entrypoint rayClusterSpec", entrypoint=TEXT, runtimeEnvYAML=TEXT, jobId=TEXT,
        submissionMode={"enum": ["K8sJobMode", "HTTPMode", "InteractiveMode"]},
        entrypointResources=TEXT, entrypointNumCpus={"type": "number"}, suspend=YES,
        activeDeadlineSeconds=NUMBER, backoffLimit=NUMBER, shutdownAfterJobFinishes=YES,
        ttlSecondsAfterFinished=NUMBER, clusterSelector=PARAMS, rayClusterSpec=CLUSTER))
"""What this file may say: KubeRay's ray-operator/apis/ray/v1/{rayjob,raycluster}_types.go, whose
names and types these are, and of a pod what the example uses."""


def test_the_job_has_the_fields_of_a_rayjob_and_no_other(root: Path) -> None:
    jsonschema = pytest.importorskip("jsonschema", reason="NO JSONSCHEMA: pip install jsonschema")
    text = (root / "docs" / "cluster" / "rayjob.yaml").read_text()
    jsonschema.validate(yaml.safe_load(text), JOB)
    for right, wrong in (("minReplicas:", "minReplica:"), ("entrypoint:", "entryPoint:"),
                         ('"0"', "0"), ("K8sJobMode", "K8SJobMode"), ("image:", "Image:")):
        assert right in text
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(yaml.safe_load(text.replace(right, wrong)), JOB)


def test_the_job_names_one_ray_everywhere(root: Path) -> None:
    text = (root / "docs" / "cluster" / "rayjob.yaml").read_text()
    job = yaml.safe_load(text)
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
