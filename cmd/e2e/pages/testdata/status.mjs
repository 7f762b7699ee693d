// The status page as an administrator uses it. The account root, password "secret", may see it; joe is limited.
import { visit, origin } from "./browser.mjs";

await visit(async (v, context) => {
  const p = v.page;
  const title = (text) => v.title(`${text} - postern`);
  await p.goto(origin + "/decisions");
  await title("Sign in");
  await v.see("sign-in");
  await p.fill("#name", "root");
  await p.fill("#password", "no");
  await p.click("button[type=submit]");
  await p.waitForSelector("[role=alert]");
  v.want((await p.inputValue("#password")) === "" && (await p.inputValue("#name")) === "root", "the form keeps what it should not, or forgets the name");
  await v.see("sign-in-again");
  await p.fill("#password", "secret");
  await p.keyboard.press("Enter");
  await p.waitForURL(origin + "/");
  await title("Overview");
  const cookies = await context.cookies();
  v.want(cookies.length === 1 && cookies[0].name === "__Host-postern-status" && cookies[0].secure && cookies[0].httpOnly && cookies[0].sameSite === "Strict", `cookies: ${JSON.stringify(cookies)}`);
  await v.see("overview");
  v.want(await p.locator("svg.graph rect").count() > 0, "the graph is empty");

  // The first stop of the keyboard leads over the header.
  await p.keyboard.press("Tab");
  v.want((await p.evaluate(() => document.activeElement.textContent)) === "Skip to the content", "the first link does not skip the header");

  await p.click("nav >> text=Decisions");
  await title("Decisions");
  await v.see("decisions");
  await p.fill("#user", "joe");
  await p.selectOption("#verdict", "deny");
  await p.click("button:has-text(\"Filter\")");
  await p.waitForURL(/user=joe/);
  const rows = await p.locator("tbody tr").allInnerTexts();
  v.want(rows.length > 0 && rows.every((row) => /joe\d@dom.example/.test(row)), `the filter selects ${JSON.stringify(rows)}`);
  v.want((await p.inputValue("#user")) === "joe", "the filter is forgotten");

  await p.click("nav >> text=Limits");
  await title("Limits");
  await v.see("limits");
  const limited = await p.locator("tbody tr").count();
  v.want(limited > 0, "nobody is limited");
  await p.locator("button:has-text(\"Forget\")").first().click();
  await p.waitForURL(/forgotten=yes/);
  await v.count("tbody tr", limited - 1);

  await p.click("nav >> text=System");
  await title("System");
  await p.click("text=Run the checks");
  await p.waitForSelector("text=Remedy", { timeout: 120000 });
  await v.see("system");

  if (v.script) {
    await p.click("nav >> text=Overview");
    const clock = p.locator("[data-part=clock]");
    const was = await clock.innerText();
    await p.waitForFunction((was) => document.querySelector("[data-part=clock]").innerText !== was, was, { timeout: 60000 });
    v.want((await p.locator("[data-live-control]").innerText()) === "Live: on", "the page is not live");
  }
  await p.click("text=Sign out");
  await title("Sign in");
  await p.goto(origin + "/");
  await title("Sign in");
});
