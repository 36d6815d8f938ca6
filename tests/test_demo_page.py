"""The demo page in a real browser: load, fuse, move, refuse; and nothing goes elsewhere.

Needs ``fusionzoo[demo]``, Selenium, and Debian's chromium and chromium-driver.
"""

import json
import os
import shutil
from urllib.parse import urlsplit

import pytest
from cli_helpers import ASSETS
from PIL import Image

pytest.importorskip("gradio", reason="needs fusionzoo[demo]")
webdriver = pytest.importorskip("selenium.webdriver", reason="needs selenium")

from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.support.ui import WebDriverWait  # noqa: E402

from fusionzoo.demo.server import serving  # noqa: E402

CHROMIUM, DRIVER = (shutil.which(name) for name in ("chromium", "chromedriver"))
FLAGS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--disable-dev-shm-usage", "--window-size=1280,1320"),
]
#: Writes docs/demo.webp anew: FUSIONZOO_SCREENSHOT=docs/demo.webp pytest tests/test_demo_page.py
SCREENSHOT = os.environ.get("FUSIONZOO_SCREENSHOT")
PATIENCE = 120  # seconds, until a step counts as failed

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore::Warning:gradio"),
    pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="needs chromium and chromedriver"),
]


@pytest.fixture(scope="module")
def page(one_thread, tmp_path_factory):
    """The page, loaded once: tests follow each other on it."""
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in [*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('chromium')}"]:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    with serving(max_pixels=100_000) as address:
        browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
        try:
            browser.get(address)
            yield Page(browser)
        finally:
            browser.quit()


class Page:
    """What a user sees and does."""

    def __init__(self, browser):
        self.browser = browser

    def all(self, selector):
        return self.browser.find_elements(By.CSS_SELECTOR, selector)

    def wait(self, selector, text=""):
        """The first element of a selector, once there is one that shows such a text."""

        def found(_):
            return next((e for e in self.all(selector) if text in e.text), None)

        return WebDriverWait(self.browser, PATIENCE).until(found, f"{selector} {text}")

    def wait_until_gone(self, selector):
        self.wait_until(lambda: not self.all(selector))

    def click(self, selector):
        element = self.wait(selector)
        self.browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", element)
        element.click()

    def click_at(self, element, x, y):
        """Click at a place that is so many pixels right of and below the centre."""
        self.browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", element)
        mouse = webdriver.ActionChains(self.browser)
        mouse.move_to_element_with_offset(element, x, y).click().perform()

    def wait_until(self, condition):
        WebDriverWait(self.browser, PATIENCE).until(lambda _: condition())

    def upload(self, side, path):
        if self.all(f"#{side} td.filename"):
            self.click(f"#{side} button[aria-label=Clear]")
        self.wait(f"#{side} input[type=file]").send_keys(str(path))
        self.wait(f"#{side} td[aria-label='{path.name}']")

    def pair(self):
        return self.wait("#pair input").get_attribute("value")


def test_the_example_is_fused_and_the_slider_shows_it(page):
    assert page.pair().startswith("Street at night")
    page.click("#fuse")
    page.wait("#status", "Infrared: 320 x 240")
    page.wait("#metrics", "Qabf")
    pictures = page.all("#slider img")
    sizes = [
        page.browser.execute_script("return [arguments[0].naturalWidth]", picture)
        for picture in pictures
    ]
    assert sizes == [[320], [320]]
    assert len({picture.get_attribute("src") for picture in pictures}) == 2
    page.wait("#files", "lapnet")
    assert len(page.all("#gallery img")) >= 3
    if SCREENSHOT:
        page.browser.execute_script("window.scrollTo(0, 0)")
        page.browser.save_screenshot(f"{SCREENSHOT}.png")
        with Image.open(f"{SCREENSHOT}.png") as shot:
            shot.convert("RGB").resize((shot.width * 3 // 4, shot.height * 3 // 4)).save(
                SCREENSHOT, quality=80, method=6
            )
        os.remove(f"{SCREENSHOT}.png")


def test_clicked_points_align_the_pair(page):
    page.click("#points button")
    page.click("#show")
    for x, y in ((-60, -30), (70, 40)):
        for side in ("ir", "vi"):
            picture = page.wait(f"#view-{side} img")
            before = picture.get_attribute("src")
            page.click_at(picture, x, y)
            page.wait_until(
                lambda b=before, s=side: page.wait(f"#view-{s} img").get_attribute("src") != b
            )
    page.click("#fit label:last-of-type input")
    page.click("#fuse")
    # The same places were clicked in both, so nothing moves.
    note = page.wait("#status", "Alignment: ").text
    assert "320 x 240 into 320 x 240, corners move 0.0 px" in note
    page.click("#fit label:first-of-type input")


def test_garbage_is_refused_in_one_line_and_a_good_file_is_taken_again(page, tmp_path):
    garbage = tmp_path / "holiday.png"
    garbage.write_bytes(b"this is no image")
    page.upload("ir", garbage)
    page.wait_until(lambda: page.pair() == "My own files")
    page.upload("vi", ASSETS / "cli_vi.png")
    page.click("#fuse")
    alert = page.wait("#status [role=alert]", "holiday.png").text
    assert alert.count("\n") == 0
    assert str(tmp_path) not in alert
    page.wait_until_gone("#slider img")
    page.upload("ir", ASSETS / "cli_ir.png")
    page.click("#fuse")
    page.wait("#status", "Visible:")
    assert page.all("#slider img")


def test_a_large_image_is_refused(page, tmp_path):
    large = tmp_path / "large.png"
    Image.new("L", (400, 300)).save(large)
    page.upload("ir", large)
    page.click("#fuse")
    assert "400 x 300" in page.wait("#status [role=alert]", "large.png").text


def test_the_browser_asked_this_machine_alone(page):
    asked = set()
    for entry in page.browser.get_log("performance"):
        message = json.loads(entry["message"])["message"]
        if message["method"] == "Network.requestWillBeSent":
            asked.add(urlsplit(message["params"]["request"]["url"])[:2])
    here = {host for scheme, host in asked if scheme in ("http", "https", "ws", "wss")}
    assert here == {urlsplit(page.browser.current_url).netloc}
    severe = [e["message"] for e in page.browser.get_log("browser") if e["level"] == "SEVERE"]
    assert severe == []
