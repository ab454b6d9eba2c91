/** What becomes of an announcement when one of those who are told of it fails. */
import { expect, it, onTestFinished } from 'vitest';
import { MaintenanceWatch } from '../../../src/maintenance/watch.ts';
import { MetadataServiceStandIn, planned } from '../../support/metadata-service.ts';

it.each([
  { failing: 'event', order: Promise.resolve(), message: 'of the listener' },
  { failing: 'setAside', order: undefined, message: 'of the coordinator' },
])(
  'a freeze is told to all, and the failure of $failing is reported',
  async ({ failing, order, message }) => {
    const service = await MetadataServiceStandIn.start();
    service.events = [planned({ EventStatus: 'Started', NotBefore: '' })];
    const told: string[] = [];
    const error = await new Promise<unknown>((resolve) => {
      const watch = new MaintenanceWatch(service.url, {
        event: ({ kind, state }) => {
          told.push(`${kind} ${state}`);
          if (failing === 'event') throw new Error('of the listener');
        },
        setAside: (aside) => {
          told.push(`aside ${aside}`);
          return order ?? Promise.reject(new Error('of the coordinator'));
        },
        failed: resolve,
      });
      onTestFinished(() => watch.close());
      watch.start();
    });
    expect(told).toEqual(['aside true', 'Freeze started']);
    expect(error).toMatchObject({ message });
  },
);
