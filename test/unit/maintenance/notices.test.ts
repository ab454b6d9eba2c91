/** What a port reports of the platform's announcements, and when it leaves the VF for them. */
import { describe, expect, it } from 'vitest';
import { Notices } from '../../../src/maintenance/notices.ts';
import { eventsIn, MetadataService } from '../../../src/maintenance/scheduled-events.ts';
import { MetadataServiceStandIn, type PlannedEvent, planned } from '../../support/metadata-service.ts';

const AT = Date.parse('Mon, 30 Nov 2026 18:00:00 GMT');
const parsed = (...events: PlannedEvent[]): ReturnType<typeof eventsIn> =>
  eventsIn({ Events: events }, 'Machine-1');

describe('the answer of the metadata service', () => {
  it('has the events of this machine alone, whatever the case of its name', () => {
    const others = [planned({ EventId: 'B2', Resources: ['machine-2'] }), planned({ EventType: 'Picnic' })];
    expect(parsed(planned(), ...others)).toEqual([
      {
        ...{ id: 'A1', kind: 'Freeze', started: false, notBefore: AT, seconds: 5 },
        ...{ description: 'Virtual machine is being paused', source: 'platform' },
      },
    ]);
  });

  it('has no time of an event that has started, and no length of one whose length is unknown', () => {
    const [event] = parsed(planned({ EventStatus: 'Started', NotBefore: '', DurationInSeconds: -1 }));
    expect(event).toMatchObject({ started: true, notBefore: undefined, seconds: undefined });
  });

  it('that is no list of events is an error, and so is another status', async () => {
    expect(() => eventsIn({}, 'machine-1')).toThrow('no list');
    const standIn = await MetadataServiceStandIn.start();
    const service = new MetadataService(standIn.url);
    const { signal } = new AbortController();
    standIn.events = [planned()];
    expect(await service.events(signal)).toEqual(parsed(planned()));
    expect(standIn.wrong).toEqual([]);
    standIn.status = 410;
    await expect(service.events(signal)).rejects.toMatchObject({
      code: 'ERR_MAINTENANCE',
      detail: 'it answers 410',
    });
    service.close();
  });
});

describe('a notice', () => {
  it('is reported when it comes, when its time changes, when it starts, and when it is over', () => {
    const notices = new Notices();
    const states = (...events: PlannedEvent[]): string[] =>
      notices.update(parsed(...events)).map(({ id, state }) => `${id} ${state}`);
    expect(states(planned())).toEqual(['A1 scheduled']);
    expect(states(planned())).toEqual([]);
    expect(states(planned({ NotBefore: 'Mon, 30 Nov 2026 18:05:00 GMT' }))).toEqual(['A1 scheduled']);
    expect(states(planned({ EventStatus: 'Started', NotBefore: '' }), planned({ EventId: 'B2' }))).toEqual([
      'A1 started',
      'B2 scheduled',
    ]);
    expect(states(planned({ EventId: 'B2' }))).toEqual(['A1 over']);
    expect(states()).toEqual(['B2 over']);
  });

  it('of a freeze sets the VF aside from ten seconds before until it is over; no other kind does', () => {
    const notices = new Notices();
    notices.update(
      parsed(planned(), planned({ EventId: 'B2', EventType: 'Redeploy', EventStatus: 'Started' })),
    );
    expect([AT - 10_001, AT - 10_000, AT + 1e6].map((now) => notices.freezes(now))).toEqual([
      false,
      true,
      true,
    ]);
    notices.update(parsed(planned({ EventStatus: 'Started', NotBefore: '' })));
    expect(notices.freezes(0)).toBe(true);
    notices.update([]);
    expect(notices.freezes(AT)).toBe(false);
  });
});
