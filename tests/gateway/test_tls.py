"""TLS by files, read again on SIGHUP; a file that does not fit is refused and changes nothing."""

import asyncio
import importlib.util
import signal
import ssl
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
import uvloop
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from insource.config import GatewayConfig
from insource.errors import ConfigError
from insource.gateway.running import read_status
from insource.gateway.tls import open_tls, serve_with
from insource.gateway.worker import _Worker

_SPEC = importlib.util.spec_from_file_location("processes", Path(__file__).with_name("processes.py"))
p = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(p)
CONFIG = GatewayConfig("127.0.0.1", 0, 16, 1, 1, 5.0)


def make_files(folder, name="first"):
    """Write a certificate for localhost and its key; return both paths."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder().subject_name(subject).issuer_name(subject).public_key(key.public_key())
        .serial_number(x509.random_serial_number()).not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    files = folder / f"{name}.crt", folder / f"{name}.key"
    files[0].write_bytes(made.public_bytes(serialization.Encoding.PEM))
    plain = serialization.NoEncryption()
    files[1].write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain))
    return files


def test_files_that_do_not_fit_are_refused(tmp_path):
    (first, key), (_, other) = make_files(tmp_path), make_files(tmp_path, "second")
    context = open_tls(replace(CONFIG, tls_cert=first, tls_key=key))
    assert context is not None and context.minimum_version is ssl.TLSVersion.TLSv1_2
    assert open_tls(CONFIG) is None
    for cert, private in ((first, other), (key, key), (first, tmp_path / "none"), (first, first)):
        with pytest.raises(ConfigError, match=r"gateway\.tls_"):
            open_tls(replace(CONFIG, tls_cert=cert, tls_key=private))


def serial(files):
    """Return the serial number of a certificate."""
    return x509.load_pem_x509_certificate(files[0].read_bytes()).serial_number


def opened(files):
    return open_tls(replace(CONFIG, tls_cert=files[0], tls_key=files[1]))


async def seen(context, trusted, name="localhost", version=ssl.TLSVersion.TLSv1_3):
    """Return the serial number that a context serves over a socket; a name that is an address is not sent."""
    client = ssl.create_default_context(cafile=str(trusted[0]))
    client.check_hostname = name == "localhost"
    client.maximum_version = version
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0, ssl=context)
    async with server:
        port = server.sockets[0].getsockname()[1]
        _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=client, server_hostname=name)
        number = writer.get_extra_info("peercert")["serialNumber"]
        writer.close()
    return int(number, 16)


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop])
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("name", ["localhost", "127.0.0.1"])
def test_connections_to_come_are_served_with_the_newest_files(tmp_path, loop, version, name):
    made = [make_files(tmp_path, name) for name in ("first", "second", "third")]
    listening = opened(made[0])

    async def main():
        for number, files in enumerate(made):
            if number:
                serve_with(listening, opened(files))
            assert await seen(listening, files, name, version) == serial(files)
        with pytest.raises(ssl.SSLError):
            await seen(listening, made[0], name, version)

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(main())


@pytest.mark.parametrize("fit", [False, True])
async def test_files_that_change_during_a_reload_leave_what_was_read_before_it(tmp_path, fit):
    first, second, (_, third) = (make_files(tmp_path, name) for name in ("first", "second", "third"))
    config = SimpleNamespace(gateway=replace(CONFIG, tls_cert=second[0], tls_key=second[1] if fit else third))
    worker = _Worker(None, None, None, None)
    worker._tls, worker._server = opened(first), SimpleNamespace(set_limits=lambda drain, receipt: None)
    reloaded = []

    async def reload(config):
        reloaded.append(config)
        second[1].write_bytes(third.read_bytes())  # certificate and key fit no longer

    asked = worker._reload(SimpleNamespace(reload=reload), SimpleNamespace(config=lambda: config))
    if fit:
        await asked
        assert reloaded == [config]
    else:
        with pytest.raises(ConfigError, match=r"gateway\.tls_cert"):
            await asked
        assert not reloaded
    now = second if fit else first
    assert await seen(worker._tls, now) == serial(now)


async def served(port, certificate, name="localhost"):
    """Return the serial number that is served to a client which trusts this certificate alone."""
    context = ssl.create_default_context(cafile=str(certificate))
    context.check_hostname = name == "localhost"
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname=name)
    number = writer.get_extra_info("peercert")["serialNumber"]
    writer.write(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
    assert (await reader.read()).startswith(b"HTTP/1.1 200")
    writer.close()
    return number


async def test_a_gateway_serves_them_and_reads_them_again(tmp_path):
    process = p.Process(tmp_path, "http://127.0.0.1:9/v1")
    current = tmp_path / "gateway.crt", tmp_path / "gateway.key"

    def use(files):
        for source, target in zip(files, current, strict=True):
            target.write_bytes(source.read_bytes())

    first, second = make_files(tmp_path), make_files(tmp_path, "second")
    use(first)
    process.configure(
        f'[gateway]\nport = {process.port}\ndrain_s = 1\ntls_cert = "gateway.crt"\ntls_key = "gateway.key"\n'
    )
    await process.start()
    try:
        assert process.said[0].startswith("insource listens on https://127.0.0.1:")
        before = await served(process.port, first[0])
        for number, (files, result) in enumerate(((second, "loaded"), ((second[0], first[1]), "refused")), start=1):
            use(files)
            process.process.send_signal(signal.SIGHUP)
            await p.until(lambda number=number: read_status(tmp_path).reload.number == number)
            assert read_status(tmp_path).reload.result == result
            assert await served(process.port, second[0]) != before
            assert await served(process.port, second[0], "127.0.0.1") != before  # a client that names no server
        with pytest.raises(ssl.SSLError):
            await served(process.port, first[0])
    finally:
        assert await process.end(signal.SIGTERM) == 0
