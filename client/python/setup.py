"""Makes the messages and stubs of proto/ as part of a build: package rasq.v1, beside rasq_client."""

import pathlib
import shutil
import subprocess
import sys

from setuptools import setup
from setuptools.command.build_py import build_py

HERE = pathlib.Path(__file__).resolve().parent
PROTO = HERE.parent.parent / "proto"


def protoc() -> list[str]:
    """grpcio-tools where there is one (pip), else the system's compiler and plugin (Debian)."""
    try:
        import grpc_tools  # noqa: F401
    except ImportError:
        plugin = shutil.which("grpc_python_plugin")
        if plugin is None or shutil.which("protoc") is None:
            sys.exit("needs grpcio-tools, or protoc and grpc_python_plugin")
        return ["protoc", f"--plugin=protoc-gen-grpc_python={plugin}"]
    return [sys.executable, "-m", "grpc_tools.protoc"]


class BuildWithStubs(build_py):
    def run(self) -> None:
        super().run()
        out = pathlib.Path(self.build_lib)
        contract = sorted(str(p.relative_to(PROTO)) for p in (PROTO / "rasq").rglob("*.proto"))
        to = [f"--python_out={out}", f"--pyi_out={out}"]
        subprocess.run([*protoc(), f"-I{PROTO}", *to, f"--grpc_python_out={out}", *contract], check=True)
        details = "rasq_client/error_details.proto"
        subprocess.run([*protoc(), f"-I{HERE}", *to, details], check=True)


setup(cmdclass={"build_py": BuildWithStubs})
