"""The checks of scripts/onnx-check, which says what they are."""

import os
import pathlib
import subprocess
import sys
import tempfile

import numpy
import onnx
import onnxruntime
from safetensors.numpy import load_file

TOLERANCE = 1e-4
# genotype, network, auxiliary head, pixels
NETWORKS = [
    ("DARTS_V2", "cifar", True, 32),
    ("NASNet", "cifar", False, 16),
    ("AmoebaNet", "cifar", False, 32),
    ("SNAS_aggressive", "cifar", False, 16),
    ("PC_DARTS_cifar", "cifar", False, 32),
    ("AmoebaNet", "imagenet", False, 64),
    ("SNAS_aggressive", "imagenet", False, 32),
]
IMAGES, BATCHES = 15, [1, 7, 15]


def run(*command):
    ended = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    if ended.returncode != 0:
        raise SystemExit(f"onnx-check: {' '.join(map(str, command))}: {ended.stderr.strip()}")
    return ended.stdout


def data():
    """Flags for the images, and what they are called."""
    folder = os.environ.get("OCHE_DATA")
    if folder and (pathlib.Path(folder) / "cifar10").is_dir():
        return ["--data", "cifar10", "--data-dir", pathlib.Path(folder) / "cifar10", "--valid-portion", "0.001"], "CIFAR-10"
    return ["--train-images", "100"], "built-in images"


def session(path):
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    unknown = [node.op_type for node in model.graph.node if not node.output]
    if unknown or model.producer_name != "oche":
        raise SystemExit(f"onnx-check: {path}: producer {model.producer_name}, nodes without result {unknown}")
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


def compare(what, wanted, given):
    error = float(numpy.abs(wanted - given).max() / max(1.0, numpy.abs(wanted).max()))
    if not error <= TOLERANCE or wanted.shape != given.shape:
        raise SystemExit(f"onnx-check: {what}: logits differ by {error}")
    if float(wanted.std(axis=0).max()) < 1e-5:
        raise SystemExit(f"onnx-check: {what}: all images have the same logits, so nothing was compared")
    return error


def check(bin, scratch, images, name, kind, auxiliary, pixels):
    folder = scratch / f"{name}-{kind}-{pixels}"
    logits, plain, whole = (scratch / file for file in ("logits.safetensors", "plain.onnx", "whole.onnx"))
    size = ["--network", kind, "--channels", 4, "--cells", 5, "--image-size", pixels, "--crop-padding", 1]
    size += ["--auxiliary-weight", 0.4 if auxiliary else 0]
    training = ["--batch-size", 16, "--epochs", 1, "--max-steps", 6, "--device", "cpu", "--quiet", "--out", folder]
    run(bin / "train", "--genotype", name, *images, *size, *training)
    said = run(bin / "inspect", "evaluate", folder, "--limit", IMAGES, "--logits", logits)
    mean, deviation = said.split("normalised by mean ")[1].splitlines()[0].split(" and deviation ")
    run(bin / "inspect", "export", folder, "--onnx", plain)
    run(bin / "inspect", "export", folder, "--onnx", whole, "--mean", mean, "--deviation", deviation)
    stored = load_file(logits)
    numbers = [numpy.array(text.split(","), dtype=numpy.float32).reshape(1, -1, 1, 1) for text in (mean, deviation)]
    worst = 0.0
    for path, inputs in [(plain, stored["images"]), (whole, stored["images"] * numbers[1] + numbers[0])]:
        runtime = session(path)
        for batch in BATCHES:
            parts = [inputs[i : i + batch] for i in range(0, len(inputs), batch)]
            given = [runtime.run(["logits"], {"input": part})[0] for part in parts]
            title = f"{name}, {kind}, {pixels} pixels, batches of {batch}"
            worst = max(worst, compare(title, stored["logits"], numpy.concatenate(given)))
    print(f"{name + ', ' + kind:<28} {pixels:>4} pixels {worst:.1e}", flush=True)


def main():
    bin = pathlib.Path(sys.argv[1])
    images, called = data()
    print(f"onnx {onnx.__version__}, onnxruntime {onnxruntime.__version__}, {called}, batches of {BATCHES}")
    with tempfile.TemporaryDirectory() as scratch:
        for network in NETWORKS:
            check(bin, pathlib.Path(scratch), images, *network)
    print("all logits agree")


if __name__ == "__main__":
    main()
