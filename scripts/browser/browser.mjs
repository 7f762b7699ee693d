// What the tests of the pages do in a real browser: Debian's Chromium, driven by playwright-core, with axe-core for what
// keeps people from using a page. A test is a program that calls visit with what it does; the environment says where.
//
// POSTERN_PORT is the port of the page on this machine, POSTERN_HOST its name, and POSTERN_SHOTS a folder for pictures.
// What is wrong is printed, a line each; a test of Go reads that.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { createRequire } from "node:module";
import { chromium } from "playwright-core";

const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

export const origin = `https://${process.env.POSTERN_HOST}:${process.env.POSTERN_PORT}`;

export const wrong = (text) => console.log("wrong: " + text);

// Visitor is a page in a browser, of a width in pixels, with or without script.
class Visitor {
  constructor(page, what, script) {
    Object.assign(this, { page, what, script });
  }

  want(met, text) {
    if (!met) wrong(`${this.what}: ${text}`);
  }

  // title waits for the page of this title: a click returns before the page that it leads to is there.
  async title(text) {
    await this.until(() => this.page.title(), text, "the title");
  }

  // count waits for this many elements.
  async count(selector, n) {
    await this.until(() => this.page.locator(selector).count(), n, selector);
  }

  async until(read, wanted, what) {
    const end = Date.now() + 60000;
    for (;;) {
      // While a page makes way for the next one, it cannot be read.
      const got = await read().catch((e) => e.message);
      if (got === wanted) return;
      if (Date.now() > end) return wrong(`${this.what}: ${what} is ${got}, not ${wanted}`);
      await this.page.waitForTimeout(50);
    }
  }

  // see checks the page that is shown, and takes a picture of it.
  async see(name) {
    const width = await this.page.evaluate(() => [document.documentElement.scrollWidth, window.innerWidth]);
    this.want(width[0] <= width[1], `${name} is ${width[0]} pixels wide, the window ${width[1]}`);
    if (process.env.POSTERN_SHOTS) {
      await this.page.screenshot({ path: join(process.env.POSTERN_SHOTS, `${this.what.replaceAll(" ", "-")}-${name}.png`), fullPage: true });
    }
    if (!this.script) return;
    await this.page.evaluate(axe);
    const found = await this.page.evaluate(() => window.axe.run(document));
    for (const v of found.violations.filter((v) => v.impact === "serious" || v.impact === "critical")) {
      wrong(`${this.what}: ${name}: ${v.impact}: ${v.help}: ${v.nodes.slice(0, 3).map((n) => n.html + " " + (n.failureSummary || "")).join(" | ")}`);
    }
  }
}

// visit does what a test does in windows of both widths, in both colours, and without script.
export async function visit(act) {
  const browser = await chromium.launch({
    executablePath: "/usr/bin/chromium",
    args: ["--no-sandbox", "--disable-dev-shm-usage", `--host-resolver-rules=MAP ${process.env.POSTERN_HOST} 127.0.0.1`],
  });
  try {
    for (const [what, width, colorScheme, script] of [
      ["wide light", 1440, "light", true],
      ["narrow dark", 360, "dark", true],
      ["wide dark without script", 1440, "dark", false],
      ["narrow light without script", 360, "light", false],
    ]) {
      const context = await browser.newContext({
        viewport: { width, height: 900 }, colorScheme, javaScriptEnabled: script, ignoreHTTPSErrors: true, locale: process.env.POSTERN_LOCALE || "en",
      });
      context.setDefaultTimeout(60000);
      const page = await context.newPage();
      const visitor = new Visitor(page, what, script);
      page.on("console", (m) => { if (m.type() === "error" && !m.text().includes("status of 403")) wrong(`${what}: the console says: ${m.text()}`); });
      page.on("pageerror", (e) => wrong(`${what}: the script fails: ${e}`));
      page.on("request", (r) => { if (!r.url().startsWith(origin)) wrong(`${what}: the page loads ${r.url()}`); });
      await act(visitor, context);
      await context.close();
    }
  } catch (e) {
    wrong(String(e.stack || e));
  } finally {
    await browser.close();
  }
}
