/** The live page in a real browser: Chromium, headless, on loopback. */
import { join } from 'node:path';
import type { Browser, BrowserContextOptions, Page } from 'playwright-core';
import { expect, it, onTestFinished } from 'vitest';
import { hasChromium, openBrowser } from '../../dist/perf/pictures/browser.js';
import { servePage } from '../../dist/src/page/live-page.js';
import { passed, Scene, until } from '../support/harness.ts';
import { ROOT } from '../support/nobody.ts';

/** For people who look at them. */
const pictures = (name: string): string => join(ROOT, 'build', `page-${name}.png`);

/** A page as one person has it, and everything that went wrong in it. */
async function look(browser: Browser, url: string, options: BrowserContextOptions) {
  const context = await browser.newContext(options);
  const page = await context.newPage();
  const complaints: string[] = [];
  const hosts = new Set<string>();
  page.on('console', (message) => {
    if (message.type() !== 'info') complaints.push(`${message.type()}: ${message.text()}`);
  });
  page.on('pageerror', (error) => complaints.push(error.message));
  context.on('request', (request) => hosts.add(new URL(request.url()).host));
  await page.goto(url);
  return { page, complaints, hosts };
}

/** How many different colours the owner of queue 0 has now, at the right end of its strip: one for a VF, several for hatching. */
const ownerColours = (page: Page): Promise<number> =>
  page.evaluate(`{
    const canvas = document.querySelector('#chart-owners canvas');
    const [end, top] = [canvas.width - 28 - 2, 8 + 3]; // what is free beside the strip
    const copy = document.createElement('canvas').getContext('2d', { willReadFrequently: true });
    copy.drawImage(canvas, end - 10, top, 10, 1, 0, 0, 10, 1);
    const { data } = copy.getImageData(0, 0, 10, 1);
    new Set(Array.from({ length: 10 }, (_, x) => data.slice(4 * x, 4 * x + 3).join())).size;
  }`);

const sidewaysScroll = (page: Page): Promise<number> =>
  page.evaluate('document.documentElement.scrollWidth - window.innerWidth');

it('shows rates, owners and a failover to the microsecond, for a wide and a narrow window, and comes back', async ({
  skip,
}) => {
  skip(!hasChromium(), 'needs Chromium: test/peers.sh installs it');
  const scene = await Scene.open();
  const { port } = scene;
  const served = await servePage([port]);
  onTestFinished(() => served.close());
  const browser = await openBrowser();
  onTestFinished(() => browser.close());

  const wide = await look(browser, served.url, {
    ...{ viewport: { width: 1280, height: 800 }, colorScheme: 'dark' },
  });
  const { page } = wide;
  const text = (selector: string): Promise<string | null> => page.textContent(selector);
  await until('the port', async () => (await text('#connection')) === 'Live');
  expect(await text('#id-device')).toBe(port.device);
  expect(await text('#id-mac')).toBe(port.mac);
  expect(await text('#failover-count')).toBe('0');
  expect(await page.isVisible('text=No failover yet.')).toBe(true);
  expect(await text('#card-vf .state')).toBe('away');
  await page.getByLabel('30 s').check();

  const traffic = await scene.drive();
  await scene.plug();
  await passed(traffic);
  await until('the rates of the VF', async () => /^[1-9]/.test(String(await text('#card-vf .in-packets'))));
  expect(await text('#card-vf .state')).toBe('transmits');
  expect(await text('#queues tr:first-child td')).toBe('VF');
  await until('the VF in the strip', async () => (await ownerColours(page)) === 1);
  await scene.unplug();
  await passed(traffic);
  await until('two failovers', async () => (await text('#failover-count')) === '2');
  expect(await text('#card-synthetic .state')).toBe('transmits');
  await until('NetVSC in the strip', async () => (await ownerColours(page)) > 1);

  // Its figures are those of the journal.
  const records = port.failovers().filter(({ from }) => from === 'vf');
  const slowest = Math.max(...records.map(({ endedNanos, detectedNanos }) => endedNanos - detectedNanos));
  const micros = (nanos: number): string => {
    const digits = nanos / 1000 < 999.95 ? 1 : 0;
    const form = { minimumFractionDigits: digits, maximumFractionDigits: digits };
    return `${(nanos / 1000).toLocaleString('en', form)} µs`;
  };
  const row = page.locator('#failovers button').first();
  expect(await row.locator('.took').textContent()).toBe(micros(slowest));
  expect(await row.locator('.when').textContent()).toMatch(/^\d\d:\d\d:\d\d\.\d{6}$/);
  expect(await row.locator('.why').textContent()).toBe(records[0]!.reason);
  expect(await text('#zoom')).toContain(`switched in ${micros(slowest)}`);
  await page.click('#zoom summary');
  for (const { queue, endedNanos, detectedNanos } of records)
    expect(await text(`#zoom tbody tr:nth-child(${queue + 1})`)).toContain(
      `+${micros(endedNanos - detectedNanos)}`,
    );
  // The other one, by its row.
  await page.locator('#failovers button').nth(1).click();
  expect(await text('#zoom strong')).toContain('synthetic → VF');
  expect(await sidewaysScroll(page)).toBe(0);
  await page.screenshot({ path: pictures('dark') });
  await page.emulateMedia({ colorScheme: 'light' });
  await page.screenshot({ path: pictures('light'), fullPage: true });

  const narrow = await look(browser, served.url, {
    ...{ viewport: { width: 390, height: 844 }, colorScheme: 'light', isMobile: true },
  });
  await until(
    'what came before it was opened',
    async () => (await narrow.page.textContent('#failover-count')) === '2',
  );
  expect(await sidewaysScroll(narrow.page)).toBe(0);
  await narrow.page.screenshot({ path: pictures('phone'), fullPage: true });

  for (const { complaints, hosts } of [wide, narrow]) {
    expect(complaints).toEqual([]);
    expect([...hosts]).toEqual([new URL(served.url).host]);
  }

  served.close();
  await until('the loss', async () =>
    /closed, retrying|lost, retrying/.test(String(await text('#connection'))),
  );
  await page.screenshot({ path: pictures('lost') });
  const again = await servePage([port], { address: new URL(served.url).port });
  onTestFinished(() => again.close());
  await until('its return', async () => (await text('#connection')) === 'Live');
  expect(await text('#failover-count')).toBe('2');
  await browser.close();
  again.close();
  await scene.finish();
});
