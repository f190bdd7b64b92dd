"""Ask a server with Triton's client. Standard input has the port and the rows; written is what the client gives."""

import json
import sys

import numpy as np
import tritonclient.http as triton

MODEL = "card-risk"
KINDS = {
    "INT64": np.int64, "INT32": np.int32, "FP64": np.float64, "FP32": np.float32, "BOOL": np.bool_, "BYTES": np.object_,
}  # fmt: skip

given = json.load(sys.stdin)
client = triton.InferenceServerClient(f"127.0.0.1:{given['port']}")


def tensors(binary, **kinds):
    made = []
    for described in client.get_model_metadata(MODEL)["inputs"]:
        name = described["name"]
        kind = kinds.get(name, described["datatype"])
        values = np.array([row[name] for row in given["rows"]], KINDS[kind])
        made.append(triton.InferInput(name, [len(values)], kind))
        made[-1].set_data_from_numpy(values, binary_data=binary)
    return made


def infer(inputs, binary_outputs=None, **options):
    names = [each["name"] for each in client.get_model_metadata(MODEL)["outputs"]]
    if binary_outputs is not None:
        options["outputs"] = [triton.InferRequestedOutput(name, binary_data=binary_outputs) for name in names]
    result = client.infer(MODEL, inputs, **options)
    read = {name: result.as_numpy(name).tolist() for name in names}
    return {
        name: [each.decode() if isinstance(each, bytes) else each for each in values] for name, values in read.items()
    }


def refusal(ask):
    try:
        ask()
    except triton.InferenceServerException as error:
        return {"status": error.status(), "message": error.message()}
    return None


named = client.infer(MODEL, tensors(True), model_version="1", request_id="mine").get_response()
written = {
    "live": client.is_server_live(),
    "ready": [client.is_server_ready(), client.is_model_ready(MODEL), client.is_model_ready(MODEL, "1")],
    "not_ready": [client.is_model_ready("other"), client.is_model_ready(MODEL, "9")],
    "server": client.get_server_metadata(),
    "id": named["id"],
    "version": named["model_version"],
    "binary": infer(tensors(True)),
    "binary_outputs": infer(tensors(False), True),
    "json": infer(tensors(False), False),
    "narrow": infer(tensors(True, amount="FP32", items="INT32"), False),
    "narrow_json": infer(tensors(False, amount="FP32", items="INT32"), False),
    "gzip": refusal(lambda: infer(tensors(True), request_compression_algorithm="gzip")),
    "wrong": refusal(lambda: infer(tensors(True, items="BOOL"))),
    "unknown": refusal(lambda: client.infer("other", tensors(True))),
}
client.close()
json.dump(written, sys.stdout)
