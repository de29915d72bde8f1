"""A SuperLink and SuperNodes as processes of their own, over TLS, each with its own images."""

import contextlib
import datetime
import ipaddress
import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from fedlab import RunFailed
from fedlab.data import load
from fedlab.engine.deployment import run_on_superlink
from fedlab.evaluation.leaks import load_leaks
from fedlab.report.page.write import write_page
from fedlab.results.folder import RunFolder
from tests.own_images import NODES, hospitals, write_images

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800), pytest.mark.xdist_group("ray")]

VICTIM = 1


def certificates(folder):
    """A certificate authority, and the certificate and key of a server on 127.0.0.1."""
    now = datetime.datetime.now(datetime.UTC)

    def certificate(name, issuer, signer, key, *, authority):
        built = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
            .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(hours=2))
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        )
        if not authority:
            hosts = [x509.IPAddress(ipaddress.ip_address("127.0.0.1")), x509.DNSName("localhost")]
            built = built.add_extension(x509.SubjectAlternativeName(hosts), critical=False)
        return built.sign(signer, hashes.SHA256())

    root, server = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    pem = serialization.Encoding.PEM
    for name, content in (
        ("ca.crt", certificate("authority", "authority", root, root, authority=True)),
        ("server.crt", certificate("localhost", "authority", root, server, authority=False)),
    ):
        (folder / name).write_bytes(content.public_bytes(pem))
    (folder / "server.key").write_bytes(
        server.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )


def answers(port):
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def start(tmp_path, left_over, monkeypatch):
    """Starts Flower's commands, and ends all that came of them after the test."""
    for name, value in {
        "FLWR_HOME": str(tmp_path / "flwr"),
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
        "TMPDIR": str(tmp_path),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(Path(__file__).resolve().parents[2]),
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))

    started = []

    def begin(command, *options):
        with (tmp_path / f"{command}-{len(started)}.txt").open("wb") as log:
            process = subprocess.Popen(
                [str(Path(sys.executable).with_name(command)), *options],
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        started.append(process)
        return process

    yield begin
    for end in (psutil.Process.terminate, psutil.Process.terminate, psutil.Process.kill):
        for process in left_over():
            with contextlib.suppress(psutil.NoSuchProcess):
                end(process)
        left_over(patience=5)
    for process in started:
        process.wait()
    assert not left_over()


@pytest.fixture
def superlink(start, tmp_path):
    """The address of a SuperLink that speaks TLS."""
    certificates(tmp_path)
    port = free_port()
    start(
        "flower-superlink",
        *("--host", "127.0.0.1", "--port", str(port), "--disable-runtime-dependency-installation"),
        *("--ssl-certfile", str(tmp_path / "server.crt")),
        *("--ssl-keyfile", str(tmp_path / "server.key")),
        *("--ssl-ca-certfile", str(tmp_path / "ca.crt")),
    )
    deadline = time.monotonic() + 120
    while not answers(port) and time.monotonic() < deadline:
        time.sleep(0.2)
    return f"127.0.0.1:{port}"


def join(start, superlink, tmp_path, client, scenario_file):
    """Start the SuperNode of a client."""
    images = tmp_path / f"hospital-{client}"
    return start(
        "flower-supernode",
        *("--superlink", superlink, "--root-certificates", str(tmp_path / "ca.crt")),
        *("--port", str(free_port()), "--node-config"),
        f'partition-id={client} images="folder:{images}" scenario="{scenario_file}"',
    )


def test_a_deployment_outlives_a_killed_node(start, superlink, tmp_path):
    scenario = hospitals(
        write_images(tmp_path / "public", 40), rounds=3, server={"reply_timeout": 600}
    )
    file = tmp_path / "scenario.toml"
    file.write_text(scenario.to_toml())
    nodes = []
    for client in range(NODES):
        write_images(tmp_path / f"hospital-{client}", 8 * client)
        nodes.append(join(start, superlink, tmp_path, client, file))
    lines = []

    def on_line(line):
        lines.append(line)
        if line.startswith("round 1:"):
            nodes[VICTIM].kill()

    run_on_superlink(
        scenario,
        tmp_path / "run",
        address=superlink,
        certificate=tmp_path / "ca.crt",
        on_line=on_line,
    )
    run = RunFolder.open(tmp_path / "run")
    assert [row.round for row in run.rounds()] == [0, 1, 2, 3]
    clients = run.table("clients")
    answered = clients[clients["status"] == "ok"]
    by_round = answered.groupby("round")["client"].apply(list).to_dict()
    assert by_round == {1: [0, 1, 2]} | {number: [0, 2] for number in (2, 3)}
    leakage = run.table("leakage")
    assert leakage.groupby("round")["client"].apply(list).to_dict() == by_round
    assert set(leakage["verdict"]) == {"unscored"}
    held = [load(f"folder:{tmp_path}/hospital-{client}") for client in range(NODES)]
    for leak in (leak for path in run.leak_files for leak in load_leaks(path)):
        data = held[leak.rows[0].client]
        apart = (data.pixels(data.train_images) - leak.rebuilt).square().mean((1, 2, 3))
        assert apart.min() < 1e-3  # an image of this client's folder
    page = write_page(run).read_text()
    assert "Clients that were missing or refused" in page
    assert "its node is not there" in page or "it did not reply" in page
    assert not list(tmp_path.glob("fedlab-*"))


def test_a_superlink_that_is_not_there_fails_the_run(start, tmp_path):
    scenario = hospitals(write_images(tmp_path / "public", 40))
    certificates(tmp_path)
    with pytest.raises(RunFailed, match="after round 0 of 2"):
        run_on_superlink(
            scenario,
            tmp_path / "run",
            address=f"127.0.0.1:{free_port()}",
            certificate=tmp_path / "ca.crt",
            on_line=lambda _: None,
        )
