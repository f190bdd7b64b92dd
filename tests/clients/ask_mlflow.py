"""Ask a server with MLflow's client. Standard input has the port and the rows; written is what the client gives."""

import json
import sys

import pandas as pd
from mlflow.pyfunc.scoring_server.client import ScoringServerClient
from mlflow.utils.proto_json_utils import dump_input_data

given = json.load(sys.stdin)
client = ScoringServerClient("127.0.0.1", given["port"])
client.wait_server_ready(30)
frame = pd.DataFrame(given["rows"])
incomplete = pd.DataFrame(given["incomplete"])  # its whole numbers are floats, and the missing one is NaN
try:
    client.invoke(frame.assign(country="Atlantis"))
    refused = ""
except Exception as error:  # noqa: BLE001 # the client raises nothing else
    refused = str(error)
written = {
    "version": client.get_version(),
    "frame": client.invoke(frame).get_predictions().to_dict("records"),
    "incomplete": client.invoke(incomplete).get_predictions().to_dict("records"),
    "body": dump_input_data(incomplete),
    "refused": refused,
}
json.dump(written, sys.stdout)
