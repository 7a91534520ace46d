"""A whole cluster in one event loop, over a real Valkey and real TLS, without Ray: owners, quota owner, gateway."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import grpc
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cluster.config import ClusterConfig, GatewayConfig, TlsFiles
from cluster.gateway import Gateway
from cluster.hosting import OwnerHost, QuotaHost
from ops import enrolment
from ops.pki import Kind
from parkgate.cluster.v1 import control_pb2, control_pb2_grpc
from parkgate.gate.v1 import gate_pb2, gate_pb2_grpc
from sales.catalogue_folder import load_folder
from ticketcore import token as tokens
from ticketcore.catalogue import Catalogue
from ticketcore.catalogue_document import canonical_json, parse_catalogue

KEY_ID = 1
NODE = "node"


def now_ms() -> int:
    return time.time_ns() // 1_000_000


@dataclass
class Pki:
    """Certificates made by the real enrolment."""

    folder: Path
    made: dict[str, TlsFiles] = field(default_factory=dict)

    def client(self, kind: Kind, name: str, gates: list[str] | None = None) -> TlsFiles:
        if name not in self.made:
            now = datetime.now(UTC)
            pair, _ = enrolment.enroll(self.folder, kind, name, gates or [], now)
            ca = enrolment.authority(self.folder, now).certificate
            certificate, key, ca_path = enrolment.save(pair, ca, name, self.folder / "out" / name)
            self.made[name] = files_of(self.folder / "out" / name, [certificate, key, ca_path])
        return self.made[name]

    def server(self) -> TlsFiles:
        pair, ca = enrolment.server_pair(self.folder, "gateway", ["localhost"], datetime.now(UTC))
        folder = self.folder / "server"
        folder.mkdir(parents=True, exist_ok=True)
        paths = [folder / "ca.pem", folder / "cert.pem", folder / "key.pem"]
        for path, data in zip(paths, (ca, pair.certificate, pair.key), strict=True):
            path.write_bytes(data)
        return TlsFiles(*paths)


def files_of(folder: Path, paths: list[Path]) -> TlsFiles:
    """Tells CA, certificate and key apart by what is in them."""
    key = next(path for path in paths if b"PRIVATE KEY" in path.read_bytes())
    ca = next(path for path in paths if path.name.startswith("ca"))
    certificate = next(path for path in paths if path not in (key, ca))
    return TlsFiles(ca, certificate, key)


def channel(files: TlsFiles, port: int) -> grpc.aio.Channel:
    credentials = grpc.ssl_channel_credentials(
        files.ca.read_bytes(), files.key.read_bytes(), files.certificate.read_bytes()
    )
    return grpc.aio.secure_channel(f"localhost:{port}", credentials)


class GateClient:
    """The plainest client of the gate protocol: sends a frame, reads a frame."""

    def __init__(self, files: TlsFiles, port: int, gates: list[str]) -> None:
        self.files = files
        self._channel = channel(files, port)
        self._stub = gate_pb2_grpc.GateServiceStub(self._channel)
        self._call = self._stub.Stream()
        self._gates = gates

    async def open(self) -> gate_pb2.Welcome:
        hello = gate_pb2.Hello(gate_ids=self._gates, device_time_ms=now_ms(), software="test")
        await self._call.write(gate_pb2.ClientFrame(hello=hello))
        return (await self._call.read()).welcome

    async def send(self, *scans: gate_pb2.Scan) -> list[gate_pb2.Verdict]:
        return list((await self.exchange(gate_pb2.ClientFrame(scans=scans))).verdicts)

    async def passage(self, verdict: gate_pb2.Verdict, outcome: int) -> gate_pb2.PassageReceipt:
        report = gate_pb2.PassageReport(scan_id=verdict.scan_id, ticket_id=verdict.ticket_id, outcome=outcome)
        return (await self.exchange(gate_pb2.ClientFrame(passages=[report]))).receipts[0]

    async def exchange(self, frame: gate_pb2.ClientFrame) -> gate_pb2.ServerFrame:
        await self._call.write(frame)
        while True:
            answer = await self._call.read()
            if answer is grpc.aio.EOF:
                raise ConnectionError("the stream ended")
            if not answer.HasField("command"):
                return answer

    async def close(self) -> None:
        self._call.cancel()
        await self._channel.close()


class LocalCluster:
    """Owners, quota owner and one gateway."""

    def __init__(self, ledger_url: str, folder: Path, owners: int = 1, partitions: int = 4, **options: object) -> None:
        run_dir = Path("/tmp") / f"pg-{os.getpid()}-{os.urandom(3).hex()}"
        run_dir.mkdir(mode=0o700)
        self.config = ClusterConfig(ledger_url, run_dir, partitions=partitions, owners=owners, **options)  # type: ignore[arg-type]
        self.pki = Pki(folder / "pki-data")
        self.key = Ed25519PrivateKey.generate()
        self.owners = [OwnerHost(f"owner-{number}", self.config, NODE) for number in range(owners)]
        self.quota = QuotaHost(self.config, NODE)
        revoked = self.pki.folder / "pki" / "revoked.json"
        self.gateway = Gateway(
            "gateway-0", self.config, GatewayConfig("127.0.0.1", 0, self.pki.server(), revoked), NODE
        )
        self.catalogue: Catalogue
        self._clients: list[GateClient] = []
        self._channels: list[grpc.aio.Channel] = []
        self._sequence = 0

    async def start(self, document: dict | None = None) -> None:
        await self.start_owners()
        await self.quota.start()
        await self.gateway.start()
        stub = self.control()
        keys = [control_pb2.PublicKey(key_id=KEY_ID, public_key=self.key.public_key().public_bytes_raw())]
        await stub.PublishKeys(control_pb2.PublishKeysRequest(keys=keys))
        await self.publish(document or example_document(), 1)

    async def publish(self, document: dict, version: int) -> None:
        self.catalogue = parse_catalogue(document)
        request = control_pb2.PublishCatalogueRequest(catalogue_version=version, document=canonical_json(document))
        await self.control().PublishCatalogue(request)

    async def start_owners(self) -> None:
        for number, host in enumerate(self.owners):
            await host.start(range(number, self.config.partitions, len(self.owners)))

    async def replace_owner(self, number: int) -> OwnerHost:
        """Starts a second owner of the same partitions, as after a fail-over; the first goes on living."""
        old = self.owners[number]
        self.owners[number] = OwnerHost(f"{old.name}-{os.urandom(2).hex()}", self.config, NODE)
        await self.owners[number].start(range(number, self.config.partitions, len(self.owners)))
        return old

    def control(self) -> control_pb2_grpc.ControlServiceStub:
        if not self._channels:
            self._channels.append(channel(self.pki.client(Kind.SERVICE, "sales"), self.gateway.port))
        return control_pb2_grpc.ControlServiceStub(self._channels[0])

    async def gate(self, *gates: str) -> GateClient:
        return await self.connect(self.pki.client(Kind.GATE, "device-" + "-".join(gates), list(gates)), *gates)

    async def connect(self, files: TlsFiles, *gates: str) -> GateClient:
        """One more stream of a device that is enrolled."""
        client = GateClient(files, self.gateway.port, list(gates))
        self._clients.append(client)
        await client.open()
        return client

    def token(self, product: str, day: date | None = None, **claims: object) -> bytes:
        """A signed token of a product, valid today unless a day is given."""
        self._sequence += 1
        item = self.catalogue.products[product]
        values: dict[str, object] = {
            "key_id": KEY_ID,
            "ticket_id": tokens.ticket_id_of(7, self._sequence),
            "product_number": item.number,
            "first_day": day or self.today(),
            "valid_days": item.valid_days,
            "party": item.persons,
            "entries": item.entries,
        }
        return tokens.sign(tokens.Claims(**(values | claims)), self.key)  # type: ignore[arg-type]

    def today(self, days: int = 0) -> date:
        return datetime.now(self.catalogue.venue.time_zone).date() + timedelta(days=days)

    async def register(self, *issued: bytes, price_minor: int = 5900) -> control_pb2.RegisterTicketsResponse:
        tickets = [control_pb2.IssuedTicket(token=item, price_minor=price_minor) for item in issued]
        return await self.control().RegisterTickets(control_pb2.RegisterTicketsRequest(tickets=tickets))

    async def stop(self) -> None:
        for client in self._clients:
            await client.close()
        for item in self._channels:
            await item.close()
        await self.gateway.stop()
        for host in self.owners:
            await host.stop()
        await self.quota.stop()
        self.config.run_dir.rmdir()


def example_document() -> dict:
    """The shipped example park, its gates open at every hour of the day."""
    return load_folder(Path(__file__).parents[2] / "catalogue")[0]


def scan(token: bytes, **fields: object) -> gate_pb2.Scan:
    return gate_pb2.Scan(scan_id=os.urandom(16), token=token, scan_time_ms=now_ms(), **fields)  # type: ignore[arg-type]


def ticket_id(token: bytes) -> int:
    return int.from_bytes(token[1:9], "big")
