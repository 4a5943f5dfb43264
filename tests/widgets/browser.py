"""A real JupyterLab in a headless Chromium: opened on a notebook, run, and moved by keys as a reader would."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
MISSING = "" if CHROMIUM and DRIVER else "needs chromium and chromedriver on the PATH"


def free_port():
    with socket.socket() as asked:
        asked.bind(("127.0.0.1", 0))
        return asked.getsockname()[1]


@contextmanager
def jupyter_lab(folder: Path, theme: str = "JupyterLab Light"):
    """Serve a folder without token and with settings of its own; yield the address."""
    port, home = free_port(), folder / ".jupyter-home"
    settings = home / "lab" / "user-settings" / "@jupyterlab" / "apputils-extension"
    settings.mkdir(parents=True, exist_ok=True)
    (settings / "themes.jupyterlab-settings").write_text(f'{{"theme": "{theme}"}}')
    (settings / "notification.jupyterlab-settings").write_text('{"fetchNews": "false", "checkForUpdates": false}')
    places = {"JUPYTER_CONFIG_DIR": home, "JUPYTER_DATA_DIR": home / "data", "JUPYTER_RUNTIME_DIR": home / "runtime"}
    places |= {"JUPYTERLAB_SETTINGS_DIR": home / "lab" / "user-settings", "IPYTHONDIR": home / "ipython"}
    places |= {"JUPYTERLAB_WORKSPACES_DIR": home / "lab" / "workspaces"}
    options = [f"--ServerApp.port={port}", "--ServerApp.port_retries=0", "--no-browser", "--IdentityProvider.token="]
    options += ["--ServerApp.allow_root=True", "--ServerApp.password=", f"--ServerApp.root_dir={folder}"]
    command = [sys.executable, "-m", "jupyterlab", *options]
    root = Path(__file__).parents[2]
    surroundings = {**os.environ, **{k: str(v) for k, v in places.items()}, "PYTHONPATH": str(root)}
    with (home / "log").open("w") as log:
        server = subprocess.Popen(command, env=surroundings, stdout=log, stderr=log, cwd=folder)
    try:
        wait_until(lambda: answers(f"http://127.0.0.1:{port}/api"), 60, f"JupyterLab does not start, see {home}/log")
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(timeout=30)


def answers(address):
    try:
        return urllib.request.urlopen(address, timeout=2).status == 200
    except OSError:
        return False


def wait_until(true, seconds, otherwise):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := true():
            return found
        time.sleep(0.1)
    raise AssertionError(otherwise)


@contextmanager
def chromium(width=1250, height=1600):
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for option in ("--headless=new", "--no-sandbox", "--disable-gpu", f"--window-size={width},{height}"):
        options.add_argument(option)
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    try:
        yield driver
    finally:
        driver.quit()


class Page:
    """A notebook in JupyterLab: run it all, then look at its panels one by one."""

    def __init__(self, driver, address, name):
        self.driver = driver
        driver.get(f"{address}/doc/tree/{name}?reset")

    def run_all(self, panels, seconds=120):
        wait_until(lambda: self.css(".jp-Notebook .jp-Cell"), 60, "no cells")
        wait_until(self._chosen_kernel, 60, "no kernel")
        next(item for item in self.css(".lm-MenuBar-item") if item.text.strip() == "Run").click()
        wait_until(lambda: self.css('.lm-Menu-item[data-command="runmenu:run-all"]'), 20, "no run menu")[0].click()
        wait_until(lambda: len(self.panels()) >= panels, seconds, "too few panels")

    def _chosen_kernel(self):
        """Take the kernel that JupyterLab offers, if it asks; true once one is idle."""
        for button in self.css(".jp-Dialog .jp-mod-accept"):
            button.click()
        return "Idle" in self.driver.find_element("css selector", "#jp-main-statusbar").text

    def css(self, selector, inside=None):
        return (inside or self.driver).find_elements("css selector", selector)

    def panels(self):
        return self.css(".jp-OutputArea-output .widget-vbox")

    def sentence(self, number):
        return self.css(".rps-sentence", self.panels()[number])[0].text

    def picture(self, number):
        """Return the data that plotly has drawn, as text: equal only where the same is seen."""
        plots = self.css(".js-plotly-plot", self.panels()[number])
        script = "return JSON.stringify([arguments[0]._fullData.map(d => [d.x, d.y, d.z]), arguments[0].layout.shapes])"
        return self.driver.execute_script(script, plots[0]) if plots else ""

    def settled(self, number):
        return bool(self.sentence(number) and self.picture(number))

    def move(self, number, control, keys):
        """Press keys on a slider of a panel, and return what the sentence says then."""

        def press(slider):
            slider.click()
            slider.send_keys(keys)

        return self._answer(number, control, press)

    def choose(self, number, control, option):
        """Click on an option of a list of a panel, and return what the sentence says then."""
        return self._answer(number, control, lambda choice: self._option(choice, option).click())

    def _option(self, choice, words):
        return next(option for option in self.css("option", choice) if option.text == words)

    def _answer(self, number, control, act):
        panel = self.panels()[number]
        self.driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", panel)
        before = (self.sentence(number), self.picture(number))
        act(self.css(".noUi-handle, select", panel)[control])
        wait_until(lambda: self.sentence(number) != before[0], 15, f"the sentence stays: {before[0]}")
        time.sleep(0.3)  # the last of several keys has been answered
        wait_until(lambda: self.settled(number) and self.picture(number) != before[1], 15, "the figure stays")
        return self.sentence(number)


def numbers(sentence):
    return [float(number) for number in re.findall(r"-?\d+\.?\d*", sentence)]
