/** Who gets the live page. */
import { describe, expect, it } from 'vitest';
import { Access, isLoopback, newToken } from '../../../src/page/access.ts';

describe('a page at a loopback address', () => {
  const access = new Access(undefined);

  it.each([
    'localhost',
    'localhost:9080',
    'LocalHost:1',
    '127.0.0.1:9080',
    '127.8.9.10',
    '[::1]:9080',
    '[::1]',
  ])('is for a request that names %s', (host) => {
    expect(access.fileOf(host, '/page.css')).toBe('page.css');
  });

  it.each([
    ...['example.org', 'localhost.example.org:9080', '127.0.0.1.example.org', '10.0.0.1:9080', '[::2]', ''],
    ...['localhost:9080@example.org', '127.0.0.1:9080, example.org', '2130706433', '0.0.0.0', undefined],
  ])('is not for one that names %s', (host) => {
    expect(access.fileOf(host, '/')).toBeUndefined();
  });
});

describe('a page at another address', () => {
  const token = newToken();
  const access = new Access(token);

  it('is for who has its token, whatever host the request names', () => {
    expect(access.base).toBe(`/${token}/`);
    expect(access.fileOf('10.0.0.5:9080', `/${token}/events`)).toBe('events');
    expect(access.fileOf('10.0.0.5:9080', `/${token}/`)).toBe('');
    expect(access.fileOf(undefined, `/${token}`)).toBe('');
  });

  it.each([
    '/',
    '',
    '/events',
    '/page.css',
    `/${newToken()}/events`,
    `/x/${token}/`,
    `/${token}x/`,
    `//${token}/`,
  ])('is not for who asks for %s', (path) => {
    expect(access.fileOf('localhost', path)).toBeUndefined();
  });

  it('has another token each time, of 144 bits', () => {
    const tokens = Array.from({ length: 100 }, newToken);
    expect(new Set(tokens).size).toBe(100);
    for (const one of tokens) expect(one).toMatch(/^[\w-]{24}$/);
  });
});

it('loopback addresses are told from others, also when IPv4 is written as IPv6', () => {
  expect(['127.0.0.1', '127.255.0.1', '::1', '::ffff:127.0.0.1'].map(isLoopback)).toEqual([
    true,
    true,
    true,
    true,
  ]);
  expect(['0.0.0.0', '::', '10.0.0.1', '::ffff:10.0.0.1', '::2', 'localhost', ''].map(isLoopback)).toEqual(
    Array(7).fill(false),
  );
});
