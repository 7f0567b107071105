"""A contestant that draws nothing much, for tests; run as a program with the protocol's path."""

import importlib.util
import os
import subprocess
import sys
import time
from pathlib import Path

spec = importlib.util.spec_from_file_location("protocol", sys.argv[1])
protocol = importlib.util.module_from_spec(spec)
spec.loader.exec_module(protocol)


class StandIn:
    def __init__(self, request):
        self.parts = protocol.Parts()
        self.tool = request["tool"]
        self.request = request
        self.cache = Path(os.environ["KDEXPORT_BENCH_CACHE"])
        if "log" in self.tool:
            with Path(self.tool["log"]).open("a") as log:
                log.write(f"{self.tool['name']} {len(list(self.cache.iterdir()))}\n")

    def import_packages(self):
        os.write(1, b"noise on the standard output\n")
        if self.tool.get("fails") == "import":
            raise ModuleNotFoundError("No module named 'nothing'\nand more")

    def load(self):
        (self.cache / "compiled").write_bytes(b"1234")
        if self.tool.get("fails") == "dies":
            os.write(2, b"dying now\n")
            os._exit(7)
        if self.tool.get("fails") == "hangs":
            child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
            Path(self.tool["pids"]).write_text(f"{os.getpid()} {child.pid}")
            time.sleep(60)

    def draw(self):
        import numpy as np

        self.parts.timed("unet", time.sleep)(self.tool.get("seconds", 0))
        drawing = self.request["drawing"]
        return np.full((drawing["height"], drawing["width"], 3), self.tool.get("level", 0), "uint8")

    def versions(self):
        return {"threads": os.environ["OMP_NUM_THREADS"]}


protocol.serve(StandIn)
