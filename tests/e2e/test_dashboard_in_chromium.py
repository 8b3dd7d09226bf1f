"""The dashboard as a person meets it: `peerd dashboard` as a process, its link opened in real headless Chromium."""

from __future__ import annotations

import contextlib
import http.client
import http.server
import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from p2pfinetune.system import interpreter
from peerd.machine.paths import Paths
from tests.linkfaults.forwarder import Forwarder
from tests.support.view import Daemon, FakeView

pytestmark = [pytest.mark.browser, pytest.mark.e2e]

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
PATIENCE = 30.0  # seconds a page may take on a machine that is busy training
FLAGS = (
    "--headless=new --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --disable-default-apps --window-size=1280,1720 --force-color-profile=srgb"
)

if not (CHROMIUM and DRIVER):
    pytest.skip(
        "NOT TESTED: no Chromium with chromedriver here (Debian: apt-get install chromium chromium-driver)",
        allow_module_level=True,
    )


@pytest.fixture(scope="module")
def daemon() -> Iterator[Any]:
    view = FakeView(rounds=24)
    view.bob_name = "bob\u202e<img src=http://example.org/x onerror=alert(1)>"
    with (
        tempfile.TemporaryDirectory(prefix="pd-") as folder,
        Daemon(Paths.of(Path(folder) / "home"), view) as running,
    ):
        yield running


@contextlib.contextmanager
def dashboard(home: Path) -> Iterator[str]:
    command = [*interpreter.command("-m", "peerd"), "dashboard", "--no-open", "--json", "--home", str(home)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        lines = []
        while not lines or lines[-1] != "}\n":
            lines.append(process.stdout.readline())
            assert lines[-1], "peerd dashboard ended"
        yield json.loads("".join(lines))["data"]["url"]
    finally:
        process.send_signal(signal.SIGINT)
        _, complaint = process.communicate(timeout=PATIENCE)
        assert (process.returncode, complaint) == (0, "")


@contextlib.contextmanager
def chromium(dark: bool = False) -> Iterator[Any]:
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in FLAGS.split():
        options.add_argument(flag)
    with tempfile.TemporaryDirectory(prefix="pd-chromium-", ignore_cleanup_errors=True) as profile:
        options.add_argument(f"--user-data-dir={profile}")
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
        try:
            driver.execute_cdp_cmd(
                "Emulation.setEmulatedMedia",
                {"features": [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]},
            )
            yield driver
        finally:
            driver.quit()


def wait(driver: Any, claim: Callable[[Any], Any], seconds: float = PATIENCE) -> Any:
    from selenium.common.exceptions import StaleElementReferenceException
    from selenium.webdriver.support.ui import WebDriverWait

    return WebDriverWait(driver, seconds, 0.05, ignored_exceptions=[StaleElementReferenceException]).until(claim)


def text_of(driver: Any, panel: str) -> str:
    found = driver.find_elements("css selector", f'[data-panel="{panel}"]')
    return found[0].text if found else ""


def requested(driver: Any) -> list[str]:
    messages = [json.loads(entry["message"])["message"] for entry in driver.get_log("performance")]
    return [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]


def complaints(driver: Any) -> list[str]:
    return [entry["message"] for entry in driver.get_log("browser") if entry["level"] in {"SEVERE", "WARNING"}]


def screenshot(driver: Any, name: str) -> None:
    if folder := os.environ.get("PEERD_SCREENSHOT"):
        Path(folder).mkdir(parents=True, exist_ok=True)
        driver.save_screenshot(str(Path(folder) / f"{name}.png"))


def test_a_person_sees_the_daemon_and_a_round_arrive_without_reloading(daemon: Any) -> None:
    with dashboard(daemon.paths.home) as url, chromium() as driver:
        driver.get(url)
        wait(driver, lambda d: "training round 25" in text_of(d, "state"))
        wait(driver, lambda d: d.find_element("id", "link-text").text == "live")
        screenshot(driver, "dashboard-light")
        daemon.call(daemon.view.finish_round)
        wait(driver, lambda d: "training round 26" in text_of(d, "state"))

        assert "token" not in driver.current_url
        assert driver.find_elements("css selector", '[data-panel="perplexity"] svg path.series.mine')
        assert len(driver.find_elements("css selector", '[data-panel="trust-over-time"] svg path.area')) == 3
        assert "alice (me)" in text_of(driver, "trust-now")
        assert driver.title == "round 26 · alice · peerd"
        assert complaints(driver) == []
        assert {urlsplit(u).netloc for u in requested(driver) if u.startswith("http")} == {urlsplit(url).netloc}


def test_a_prompt_is_tried_on_two_models_and_the_model_exported(daemon: Any) -> None:
    with dashboard(daemon.paths.home) as url, chromium() as driver:
        driver.get(url)
        wait(driver, lambda d: d.find_element("id", "link-text").text == "live")
        find = lambda name: driver.find_element("id", name)  # noqa: E731  # said ten times below
        find("try-text").send_keys("Dear all,\nthe <b>meeting</b> is at")
        find("try-ask").click()
        wait(
            driver,
            lambda d: all(find(f"said-{m}").get_dom_attribute("data-state") == "done" for m in ("base", "personal")),
        )
        said = [find(f"said-{model}").text for model in ("base", "personal")]
        find("export-format").find_element("css selector", "[value=gguf]").click()
        find("export-modelfile").click()
        find("export-go").click()
        wait(driver, lambda d: "Written to" in find("export-told").text)
        driver.execute_script("arguments[0].scrollIntoView()", find("asking"))
        screenshot(driver, "dashboard-asking")

        assert said == [" Dear all, the <b>meeting</b> is at"] * 2  # its lines and spaces as it said them
        assert re.search(r"Written to \S+/exports/served-gguf-\d{8}-\d{6} \(4\.1 kB\)", find("export-told").text)
        assert not driver.find_elements("css selector", ".said b")
        find("try-text").clear()
        find("try-text").send_keys("forever")
        find("try-ask").click()
        wait(driver, lambda d: len(find("said-base").text) > 20)
        find("try-stop").click()
        wait(driver, lambda d: find("try-ask").is_enabled())
        find("try-text").clear()
        find("try-text").send_keys("fail")
        find("try-ask").click()
        wait(driver, lambda d: "ran out of memory: stop other programs" in find("said-personal").text)
        screenshot(driver, "dashboard-asking-failed")
        assert [found for found in complaints(driver) if "/ask/respond" not in found] == []


def test_the_name_of_a_stranger_is_text_and_nothing_else(daemon: Any) -> None:
    with dashboard(daemon.paths.home) as url, chromium(dark=True) as driver:
        driver.get(url)
        wait(driver, lambda d: "bob<img" in text_of(d, "peers"))
        wait(driver, lambda d: d.find_element("id", "link-text").text == "live")
        screenshot(driver, "dashboard-dark")

        holders = driver.execute_script(
            "return [...document.querySelectorAll('main *')].filter((e) => [...e.childNodes].some((n) => n.nodeType === 3"
            " && n.data.includes('bob<'))).map((e) => getComputedStyle(e).unicodeBidi)"
        )

        assert len(holders) >= 3  # two panels and the table
        assert set(holders) == {"isolate"}
        assert "\u202e" not in driver.find_element("tag name", "body").text
        assert len(driver.find_elements("css selector", "main img")) == 0
        assert not any("example.org" in address for address in requested(driver))


@pytest.mark.slow  # the gate itself is asked in tests/peerd/control/test_dashboard_proxy.py
def test_a_second_browser_with_the_same_link_sees_nothing_and_is_told_why(daemon: Any) -> None:
    with dashboard(daemon.paths.home) as url:
        with chromium() as first:
            first.get(url)
            wait(first, lambda d: "training round" in text_of(d, "state"))
            first.refresh()
            wait(first, lambda d: "training round" in text_of(d, "state"))
        with chromium() as second:
            second.get(url)
            wait(second, lambda d: "again and open the link it prints" in d.find_element("id", "notice").text)

            assert second.find_elements("css selector", "[data-panel]") == []


class OtherPort(http.server.ThreadingHTTPServer):
    """Somebody else's server on 127.0.0.1: it keeps what browsers send it, and its page tries to look at the dashboard."""

    PAGE = """<!doctype html><title>prize draw</title><script type="module">
    const found = { cookie: document.cookie, storage: { ...sessionStorage, ...localStorage } };
    const from = "TARGET";
    const tries = {
      read: () => fetch(from + "/v1/status").then((a) => a.text()),
      credentials: () => fetch(from + "/v1/status", { credentials: "include" }).then((a) => a.text()),
      header: () => fetch(from + "/v1/status", { headers: { "x-peerd-session": "x" } }).then((a) => a.text()),
      events: () => new Promise((good, bad) => { const e = new EventSource(from + "/v1/events", { withCredentials: true });
        e.onmessage = e.onopen = () => good("open"); e.onerror = () => { e.close(); bad(new Error("closed")); }; }),
      frame: () => new Promise((good, bad) => { const f = document.createElement("iframe"); f.src = from + "/";
        f.onload = () => { try { good(f.contentDocument.body.innerText.trim() || bad(new Error("empty"))); } catch (e) { bad(e); } }; document.body.append(f); }),
      module: () => import(from + "/web/session.js").then(() => "loaded"),
      tabs: () => new Promise((good, bad) => { const c = new BroadcastChannel("peerd-session"); c.onmessage = (m) => good(m.data.session);
        c.postMessage({ wanted: true }); setTimeout(() => bad(new Error("nobody")), 1000); }),
    };
    for (const [name, attempt] of Object.entries(tries)) { try { found[name] = await attempt(); } catch { found[name] = null; } }
    document.title = JSON.stringify(found);
    </script>"""

    def __init__(self, target: str) -> None:
        self.heard: list[dict[str, str]] = []
        super().__init__(("127.0.0.1", 0), self.handler(target))

    def handler(self, target: str) -> type[http.server.BaseHTTPRequestHandler]:
        heard, body = self.heard, self.PAGE.replace("TARGET", target).encode()

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                heard.append(dict(self.headers.items()))
                self.send_response(200)
                self.send_header("content-type", "text/html; charset=utf-8")
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        return Handler


@contextlib.contextmanager
def serving(server: http.server.ThreadingHTTPServer) -> Iterator[str]:
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def asked_with(headers: dict[str, str], port: int) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    connection.request("GET", "/v1/status", headers={**headers, "Host": f"127.0.0.1:{port}"})
    status = connection.getresponse().status
    connection.close()
    return status


def test_a_page_on_another_port_reads_nothing_and_is_sent_nothing_that_it_could_read_with(daemon: Any) -> None:
    with dashboard(daemon.paths.home) as url, chromium() as driver:
        port = urlsplit(url).port
        driver.get(url)
        wait(driver, lambda d: "training round" in text_of(d, "state"))
        with serving(other := OtherPort(f"http://127.0.0.1:{port}")) as elsewhere:
            driver.switch_to.new_window("tab")  # the dashboard stays open in the first one
            driver.get(elsewhere)
            wait(driver, lambda d: d.title.startswith("{"))
            found = json.loads(driver.title)

        nothing = dict.fromkeys(("read", "credentials", "header", "events", "frame", "module", "tabs"))
        assert found == {"cookie": "", "storage": {}, **nothing}
        assert other.heard
        assert not any({"cookie", "x-peerd-session", "authorization"} & {n.lower() for n in one} for one in other.heard)
        assert [asked_with(one, port) for one in other.heard] == [401] * len(other.heard)


@pytest.mark.slow
def test_a_new_tab_and_a_bookmark_take_over_the_session_of_an_open_tab(daemon: Any) -> None:
    with dashboard(daemon.paths.home) as url, chromium() as driver:
        bare = url.partition("#")[0]
        driver.get(url)
        wait(driver, lambda d: "training round" in text_of(d, "state"))
        first = driver.current_window_handle
        driver.switch_to.new_window("tab")
        driver.get(bare)
        wait(driver, lambda d: "training round" in text_of(d, "state"))
        second = driver.current_window_handle
        driver.switch_to.window(first)
        driver.close()
        driver.switch_to.window(second)
        driver.refresh()
        wait(driver, lambda d: "training round" in text_of(d, "state"))
        driver.switch_to.new_window("tab")
        third = driver.current_window_handle
        driver.switch_to.window(second)
        driver.close()
        driver.switch_to.window(third)
        driver.get(bare)  # nobody is left to ask
        wait(driver, lambda d: "This tab has no session" in d.find_element("id", "notice").text)

        assert driver.find_elements("css selector", "[data-panel]") == []


@pytest.mark.slow  # so is this
def test_the_page_lives_behind_a_tunnel_on_another_port(daemon: Any) -> None:
    with dashboard(daemon.paths.home) as url, Forwarder(urlsplit(url).port) as port, chromium() as driver:
        driver.get(url.replace(f":{urlsplit(url).port}/", f":{port}/"))
        wait(driver, lambda d: d.find_element("id", "link-text").text == "live")
        wait(driver, lambda d: "training round" in text_of(d, "state"))
        rounds = rounds_done(driver)
        daemon.call(daemon.view.finish_round)
        wait(driver, lambda d: rounds_done(d) > rounds)

        assert complaints(driver) == []


def test_the_page_says_when_the_daemon_has_gone_and_goes_on_when_it_is_back() -> None:
    with tempfile.TemporaryDirectory(prefix="pd-") as folder, contextlib.ExitStack() as stack:
        paths = Paths.of(Path(folder) / "home")
        with Daemon(paths, FakeView(alone=True)):
            driver = stack.enter_context(chromium())
            driver.get(stack.enter_context(dashboard(paths.home)))
            wait(driver, lambda d: "To find peers, type" in text_of(d, "state"))
            screenshot(driver, "dashboard-alone")
        wait(driver, lambda d: "daemon does not answer" in d.find_element("id", "notice").text)
        with Daemon(paths, FakeView(rounds=3)):
            wait(driver, lambda d: "training round 4" in text_of(d, "state"))

            assert not driver.find_element("id", "notice").is_displayed()


@contextlib.contextmanager
def demo(report: Path, *options: str) -> Iterator[subprocess.Popen[str]]:
    """`peerd demo` as a person starts it; interrupted, and waited for, if it still runs at the end."""
    command = [*interpreter.command("-m", "peerd"), "demo", "--json", "--report", str(report), *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
        if not process.stdout.closed:
            process.communicate(timeout=60)


def rounds_done(driver: Any) -> int:
    title = driver.title.split()
    return int(title[1]) if title[:1] == ["round"] else 0


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_round_of_a_running_demo_arrives_on_the_page(tmp_path: Path) -> None:
    with demo(tmp_path / "report", "--peers", "2", "--rounds", "3") as running:
        home = tmp_path / "report" / "homes" / "prose-1"
        socket = Paths.of(home).socket
        deadline = time.monotonic() + 240
        while not socket.exists() and running.poll() is None and time.monotonic() < deadline:
            time.sleep(0.2)
        with dashboard(home) as url, chromium() as driver:
            driver.get(url)
            seen = wait(driver, rounds_done, 120)
            wait(driver, lambda d: rounds_done(d) > seen, 120)
            wait(driver, lambda d: d.find_elements("css selector", '[data-panel="perplexity"] svg path.series'))
            wait(driver, lambda d: "prose-2" in text_of(d, "peers"), 120)  # who starts late, speaks late
            screenshot(driver, "dashboard-of-a-demo")

            assert complaints(driver) == []
        out, _ = running.communicate(timeout=240)

    document = json.loads(out)
    assert running.returncode == 0
    assert document["status"] == "ok"
    assert {peer["name"] for peer in document["data"]["peers"]} == {"prose-1", "prose-2"}
    assert all(peer["rounds"] >= 3 and peer["bytes_in"] > 0 for peer in document["data"]["peers"])
    assert all(abs(sum(peer["trust"].values()) - 1) < 1e-6 for peer in document["data"]["peers"])
    assert (tmp_path / "report" / "trust.png").stat().st_size > 1000
