"""Headless Chromium, by its own driver."""

import os

from selenium import webdriver
from selenium.webdriver.chrome.service import Service

import harness


def open_chromium(folder):
    options = webdriver.ChromeOptions()
    options.binary_location = "/usr/bin/chromium"
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--window-size=900,600",
                     f"--user-data-dir={folder}/chromium", "--no-first-run", "--disable-background-networking",
                     # nothing but this machine: a page might like a font from elsewhere
                     "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE localhost, EXCLUDE 127.0.0.1"):
        options.add_argument(argument)
    env = {**os.environ, "HOME": str(folder), "TMPDIR": str(folder)}
    driver = webdriver.Chrome(service=Service("/usr/bin/chromedriver", env=env), options=options)
    driver.set_page_load_timeout(harness.PATIENCE)
    driver.set_script_timeout(harness.PATIENCE)
    return driver
