"""Pages come from the public internet only, and a hostile server gains nothing."""

from __future__ import annotations

import datetime as dt
import gzip
import ipaddress
import ssl
import threading
import zlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

pytest.importorskip("mcp", reason="mcp is not installed")

from hypothesis import given
from hypothesis import strategies as st

from nearfield_mcp.addresses import is_public
from nearfield_mcp.urls import Fetcher, FetchLimits, UrlRefusedError

SECRET = b"the canary behind the firewall"


class Handler(BaseHTTPRequestHandler):
    """Answers by the path, and remembers what it was asked."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.server.asked.append((self.path, dict(self.headers)))
        getattr(self, f"answer_{self.path.split('?')[0].strip('/').split('/')[0] or 'page'}")()

    def send(self, body, kind="text/html", status=200, **headers):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def answer_page(self):
        self.send(b"<h1>Kettles</h1><p>They boil.</p>", set_cookie="id=1")

    def answer_to(self):
        self.send(b"", status=302, location=self.path.split("?", 1)[1], set_cookie="id=1")

    def answer_loop(self):
        self.send(b"", status=302, location="/loop")

    def answer_secret(self):
        self.send(SECRET, "text/plain")

    def answer_huge(self):
        self.send_response(200)
        self.send_header("Content-Type", "text/plain")
        self.end_headers()
        for _ in range(200):
            self.wfile.write(b"x" * 100_000)

    def answer_bomb(self):
        packer = zlib.compressobj(9, wbits=31)
        body = b"".join(packer.compress(b"\0" * 2**20) for _ in range(200)) + packer.flush()
        self.send(body, "text/plain", content_encoding="gzip")

    def answer_endless(self):
        """A complete gzip member, and rubbish without end behind it."""
        self.send_response(200)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Encoding", "gzip")
        self.end_headers()
        self.wfile.write(gzip.compress(b"short"))
        for _ in range(200):
            self.wfile.write(b"x" * 100_000)

    def answer_gzip(self):
        self.send(gzip.compress(b"packed text"), "text/plain", content_encoding="gzip")

    def answer_damaged(self):
        self.send(b"no gzip at all", "text/plain", content_encoding="gzip")

    def answer_cut(self):
        self.send(gzip.compress(b"packed text")[:-9], "text/plain", content_encoding="gzip")

    def answer_brotli(self):
        self.send(b"....", "text/plain", content_encoding="br")

    def answer_slow(self):
        self.send_response(200)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", "1000")
        self.end_headers()
        while not self.server.ending.wait(0.02):
            self.wfile.write(b"x")
            self.wfile.flush()

    def answer_slowhead(self):
        self.wfile.write(b"HTTP/1.1 200 OK\r\nX: ")
        while not self.server.ending.wait(0.02):
            self.wfile.write(b"x")
            self.wfile.flush()

    def answer_kind(self):
        self.send(b"a,b\n1,2\n", self.path.split("?", 1)[1])

    def answer_untyped(self):
        self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi")

    def answer_rubbish(self):
        self.wfile.write(b"SSH-2.0-OpenSSH\r\n" + SECRET + b"\r\n")
        self.close_connection = True

    def answer_gone(self):
        self.send(SECRET, status=404)

    def log_message(self, *arguments):
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True
    asked: list

    def handle_error(self, request, client_address):
        """A client that hangs up is what these tests are about."""


def serve(tls=None):
    server = Server(("127.0.0.1", 0), Handler)
    server.asked = []
    server.ending = threading.Event()
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    return server, thread


@pytest.fixture
def server():
    server, thread = serve()
    yield server
    server.ending.set()
    server.shutdown()
    thread.join()
    server.server_close()


def fetcher_of(server, *, resolve=None, **limits):
    """Fetch from the test's own server, which is on loopback, and nowhere else."""
    port = server.server_address[1]
    return Fetcher(
        FetchLimits(**{"timeout_s": 20.0, "ports": frozenset({port}), **limits}),
        resolve=resolve or (lambda *_: ["127.0.0.1"]),
        allows=lambda address: address.is_loopback,
    )


def at(server, path, host="pages.test"):
    return f"http://{host}:{server.server_address[1]}{path}"


# ── addresses ────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "127.8.9.1", "0.0.0.0", "0.1.2.3", "10.1.2.3", "172.16.0.1", "172.31.9.9"),
        *("192.168.1.1", "169.254.169.254", "100.64.0.1", "100.100.100.200", "192.0.0.8"),
        *("168.63.129.16", "198.18.0.1", "224.0.0.1", "239.255.255.250", "240.0.0.1"),
        *("255.255.255.255", "192.88.99.1", "203.0.113.9"),
        *("::", "::1", "::127.0.0.1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:8.8.8.8%1"),
        *("fe80::1", "fe80::1%eth0", "fc00::1", "fd00:ec2::254", "fec0::1", "ff02::1"),
        *("64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::808:808", "2002:7f00:1::1"),
        *("2002:a9fe:a9fe::", "2001:0:4136:e378:8000:63bf:3fff:fdd2", "2001:db8::1", "100::1"),
        *("3fff::1", "5f00::1", "4000::1", "::ffff:0:127.0.0.1"),
    ],
)
def test_what_is_not_on_the_public_internet_is_refused(address):
    if address == "::ffff:8.8.8.8%1":
        assert is_public(ipaddress.ip_address("::ffff:8.8.8.8"))
        return
    assert not is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize(
    "address", ["8.8.8.8", "1.1.1.1", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"]
)
def test_public_addresses_are_allowed(address):
    assert is_public(ipaddress.ip_address(address))


@given(st.ip_addresses())
def test_nothing_is_public_that_python_calls_private(address):
    if is_public(address) and address not in ipaddress.ip_network("64:ff9b::/96"):
        inner = getattr(address, "ipv4_mapped", None) or address
        assert not inner.is_private
        assert not inner.is_loopback
        assert not inner.is_multicast
        assert not inner.is_link_local


@pytest.mark.parametrize(
    "url",
    [
        *("http://127.0.0.1/", "http://127.1/", "http://2130706433/", "http://0x7f000001/"),
        *("http://0177.0.0.1/", "http://0/", "http://[::1]/", "http://[::ffff:127.0.0.1]/"),
        *("http://[::]/", "http://localhost/", "http://169.254.169.254/latest/meta-data/"),
        *("http://[64:ff9b::7f00:1]/", "http://[fe80::1%25lo]/", "http://0.0.0.0/"),
    ],
)
def test_private_hosts_are_refused_however_they_are_spelt(url):
    """With the system's own resolver: none of these needs a network."""
    with pytest.raises(UrlRefusedError) as raised:
        Fetcher(FetchLimits(timeout_s=10)).fetch(url)
    assert "127" not in str(raised.value)


def test_a_name_that_stands_for_loopback_is_refused(server):
    port = server.server_address[1]
    limits = FetchLimits(ports=frozenset({port}))
    fetcher = Fetcher(limits, resolve=lambda *_: ["127.0.0.1"])
    with pytest.raises(UrlRefusedError, match="public"):
        fetcher.fetch(at(server, "/secret"))
    assert server.asked == []


def test_one_private_address_among_public_ones_refuses_the_host(server):
    port = server.server_address[1]
    limits = FetchLimits(ports=frozenset({port}))
    fetcher = Fetcher(limits, resolve=lambda *_: ["8.8.8.8", "127.0.0.1"])
    with pytest.raises(UrlRefusedError, match="public"):
        fetcher.fetch(at(server, "/secret"))
    assert server.asked == []


def test_a_name_that_changes_its_address_after_the_check_is_asked_once(server):
    """DNS rebinding: the second answer would be another address than the one that was checked."""
    answers = iter([["127.0.0.1"], ["127.0.0.2"]])
    asked = []

    def resolve(host, port):
        asked.append(host)
        return next(answers)

    fetcher = Fetcher(
        FetchLimits(ports=frozenset({server.server_address[1]})),
        resolve=resolve,
        allows=lambda address: str(address) == "127.0.0.1",
    )
    assert b"Kettles" in fetcher.fetch(at(server, "/")).data
    assert asked == ["pages.test"]
    with pytest.raises(UrlRefusedError, match="public"):  # checked again the next time
        fetcher.fetch(at(server, "/"))
    assert len(server.asked) == 1


def test_a_resolver_that_never_answers_is_given_up(server):
    ending = threading.Event()

    def resolve(host, port):
        ending.wait(30)
        return []

    with pytest.raises(UrlRefusedError, match=r"within 0\.2 s"):
        fetcher_of(server, resolve=resolve, timeout_s=0.2).fetch(at(server, "/"))
    ending.set()


# ── spellings ────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("file:///etc/passwd", "only http"),
        ("ftp://a.test/", "only http"),
        ("gopher://a.test/", "only http"),
        ("data:text/plain,hi", "only http"),
        ("//a.test/", "only http"),
        ("a.test/page", "only http"),
        ("http:///x", "only http"),
        ("http://user:secret@a.test/", "credentials"),
        ("http://user@a.test/", "credentials"),
        ("http://a.test\\@b.test/", "credentials"),
        ("http://a.test:22/", "port"),
        ("http://a.test:8080/", "port"),
        ("http://a.test:99999/", "port"),
        ("http://a.test:x/", "no URL"),
        ("http://a.test/" + "x" * 3_000, "2000 characters"),
        ("http://a.test/\r\nX: y", "no URL"),
        ("http://[::1/", "no URL"),
    ],
)
def test_spellings_that_are_not_allowed_are_refused(url, why):
    with pytest.raises(UrlRefusedError, match=why) as raised:
        Fetcher().check(url)
    assert "secret" not in str(raised.value)


@given(st.text(max_size=60) | st.from_regex(r"https?://[\w.:@\[\]%/\\#?-]{0,40}", fullmatch=True))
def test_any_text_is_a_url_that_may_be_fetched_or_is_refused(text):
    try:
        url = Fetcher().check(text)
    except UrlRefusedError:
        return
    assert url.startswith(("http://", "https://"))
    assert "#" not in url
    assert Fetcher().check(url) == url


def test_a_fragment_is_left_out():
    assert Fetcher().check("https://a.test/x#part") == "https://a.test/x"


# ── redirects ────────────────────────────────────────────────────────────────────────────────────


def test_a_redirect_is_followed_without_cookies(server):
    page = fetcher_of(server).fetch(at(server, "/to?/page"))
    assert b"Kettles" in page.data
    assert [path for path, _ in server.asked] == ["/to?/page", "/page"]
    for _, headers in server.asked:
        assert headers["Host"] == f"pages.test:{server.server_address[1]}"
        assert "Cookie" not in headers
        assert "Authorization" not in headers


@pytest.mark.parametrize(
    ("location", "why"),
    [
        ("http://inside.test:{port}/secret", "public"),
        ("//inside.test:{port}/secret", "public"),
        ("file:///etc/passwd", "only http"),
        ("http://user:pw@pages.test:{port}/", "credentials"),
        ("http://pages.test:22/", "port"),
        ("http://[::1", "no URL"),
    ],
)
def test_a_redirect_is_checked_as_the_first_address_was(server, location, why):
    addresses = {"pages.test": ["127.0.0.1"], "inside.test": ["10.0.0.1"]}
    fetcher = fetcher_of(server, resolve=lambda host, _: addresses[host])
    location = location.format(port=server.server_address[1])
    with pytest.raises(UrlRefusedError, match=why):
        fetcher.fetch(at(server, f"/to?{location}"))
    assert len(server.asked) == 1


def test_a_name_that_turns_private_between_two_redirects_is_refused(server):
    answers = iter([["127.0.0.1"], ["10.0.0.1"]])
    with pytest.raises(UrlRefusedError, match="public"):
        fetcher_of(server, resolve=lambda *_: next(answers)).fetch(at(server, "/to?/page"))
    assert len(server.asked) == 1


def test_redirects_in_a_circle_end(server):
    with pytest.raises(UrlRefusedError, match="more than 5 times"):
        fetcher_of(server).fetch(at(server, "/loop"))
    assert len(server.asked) == 6


# ── bodies ───────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("path", ["/huge", "/bomb"])
def test_a_body_is_read_no_further_than_the_limit(server, path):
    with pytest.raises(UrlRefusedError, match="more than 100000 bytes"):
        fetcher_of(server, max_bytes=100_000).fetch(at(server, path))


def test_what_follows_a_compressed_body_is_not_read(server):
    assert fetcher_of(server).fetch(at(server, "/endless")).data == b"short"


@pytest.mark.parametrize("path", ["/slow", "/slowhead"])
def test_bytes_that_drip_in_end_with_the_time(server, path):
    with pytest.raises(UrlRefusedError, match=r"within 0\.5 s"):
        fetcher_of(server, timeout_s=0.5).fetch(at(server, path))


def test_a_compressed_body_is_unpacked(server):
    assert fetcher_of(server).fetch(at(server, "/gzip")).data == b"packed text"


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("/damaged", "damaged"),
        ("/cut", "ended before"),
        ("/brotli", "not asked for"),
        ("/gone", "answered 404"),
        ("/untyped", "what type"),
        ("/rubbish", "no proper HTTP"),
        ("/kind?image/png", "not read"),
        ("/kind?application/octet-stream", "not read"),
        ("/kind?application/javascript", "not read"),
    ],
)
def test_what_is_no_page_is_refused_without_telling_what_it_is(server, path, why):
    with pytest.raises(UrlRefusedError, match=why) as raised:
        fetcher_of(server).fetch(at(server, path))
    assert SECRET.decode() not in str(raised.value)


def test_a_closed_port_is_told_as_any_other_failure(server):
    limits = FetchLimits(ports=frozenset({1}))
    fetcher = Fetcher(limits, resolve=lambda *_: ["127.0.0.1"], allows=lambda _: True)
    with pytest.raises(UrlRefusedError, match="could not be reached"):
        fetcher.fetch("http://pages.test:1/")


@pytest.mark.parametrize(
    ("path", "kind", "name", "encoding"),
    [
        ("/kind/report", "text/html; charset=utf-8", "report.html", None),
        ("/kind/report.html", "text/html; charset=latin-1", "report.html", "iso8859-1"),
        ("/kind/data", "text/csv; charset=nonsense", "data.csv", None),
        ("/kind/notes.md", "text/plain", "notes.md", None),
        ("/kind/notes.sh", "text/plain", "notes.sh.txt", None),
        ("/kind/", "application/json", "kind.json", None),
        ("/kind/a.pdf", "application/pdf", "a.pdf", None),
        ("/kind/a%0Ab%1B.html", "text/html", "a b .html", None),
    ],
)
def test_the_media_type_chooses_the_reader(server, path, kind, name, encoding):
    page = fetcher_of(server).fetch(at(server, f"{path}?{kind}".replace(" ", "")))
    assert (page.name, page.encoding) == (name, encoding)


def test_what_the_caller_raises_ends_the_fetch(server):
    def check():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetcher_of(server).fetch(at(server, "/huge"), check=check)


def test_a_proxy_in_the_environment_is_not_asked(server, monkeypatch):
    for name in (
        "http_proxy",
        "HTTP_PROXY",
        "https_proxy",
        "HTTPS_PROXY",
        "all_proxy",
        "ALL_PROXY",
    ):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    assert b"Kettles" in fetcher_of(server).fetch(at(server, "/")).data


# ── TLS ──────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def certified(tmp_path):
    """A server with a certificate for pages.test, and a context that trusts it."""
    pytest.importorskip("cryptography", reason="cryptography makes the test's certificate")
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "pages.test")])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("pages.test")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = tmp_path / "server.pem"
    pem.write_bytes(
        certificate.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    pem.chmod(0o600)
    own = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    own.load_cert_chain(pem)
    names = []
    own.sni_callback = lambda _socket, name, _context: names.append(name)
    server, thread = serve(own)
    yield server, ssl.create_default_context(cafile=pem), names
    server.ending.set()
    server.shutdown()
    thread.join()
    server.server_close()


def test_over_tls_the_name_is_asked_for_and_not_the_address(certified):
    server, trust, names = certified
    port = server.server_address[1]
    fetcher = Fetcher(
        FetchLimits(ports=frozenset({port})),
        resolve=lambda *_: ["127.0.0.1"],
        allows=lambda address: address.is_loopback,
        tls=trust,
    )
    assert b"Kettles" in fetcher.fetch(f"https://pages.test:{port}/").data
    assert names == ["pages.test"]
    with pytest.raises(UrlRefusedError, match="could not be reached"):
        fetcher.fetch(f"https://other.test:{port}/")
    with pytest.raises(UrlRefusedError, match="https to http"):
        fetcher.fetch(f"https://pages.test:{port}/to?http://pages.test:{port}/")
