/*
 * Which path a queue polls and transmits on, while a VF comes and goes.
 *
 * Stands for
 *   Supervisor   src/coordinator/port-failover.ts (PortFailover), src/coordinator/ownership.ts (Ownership)
 *   Coordinator  src/coordinator/reconcile.ts, open-path.ts, close-path.ts, react.ts, managed-port.ts (left, adopt, resume)
 *   Worker       src/datapath/owner-switch.ts (carryOut), port-queue.ts (poll, #flush), src/paths/ring-queue.ts,
 *                takeover.ts after a death
 *   Kernel       the other end of the rings: AF_XDP in copy mode for the VF, a tap's io_uring for the synthetic path
 *   Platform     the host, which gives the VF and takes it away
 *
 * Simplifies
 *   - The synthetic path is always there. A packet has one descriptor, a burst one packet.
 *   - The handler answers each packet with TX. A packet's number is the order in which the worker decided that.
 *   - The VF's driver reads the transmit ring only in a kick, as AF_XDP does in copy mode. Then a packet is on the wire; or it
 *     is lost inside, if the device is dying. The synthetic path puts a packet on the wire when it completes it.
 *   - The worker waits for the synthetic path without a time limit (SETTLE_NANOS in the code).
 *   - A worker dies between two steps of a round. Deaths between two statements are not in it.
 *   - A VF that has lost only its link is closed whole; the code may keep the device open (closeQueues).
 *
 * README.md in this folder says how to read and run this file.
 */

#ifndef WORKERS
#define WORKERS 1
#endif
#ifndef FRAMES
#define FRAMES 2 /* of each worker */
#endif
#ifndef PACKETS
#define PACKETS 2 /* that arrive at each worker */
#endif
#ifndef VISITS
#define VISITS 1 /* how often the VF comes */
#endif
#ifndef WORKER_DEATHS
#define WORKER_DEATHS 0
#endif
#ifndef COORDINATOR_DEATHS
#define COORDINATOR_DEATHS 0
#endif

#define SYN 0
#define VF  1
#define ALL_FRAMES (WORKERS * FRAMES)

/* Owners of a frame, as in src/memory/bit-fields.ts. */
#define FREE 0
#define FILL(path) (1 + path)
#define TX(path)   (3 + path)

/* The owner word of a queue, and its acknowledgement. */
typedef Word {
  byte epoch;
  bit path;    /* transmits on it */
  bit polls;   /* whether the VF is attached; the synthetic path always is */
  bit reclaim  /* whether the VF's frames are to be reclaimed */
}

Word owner[WORKERS];        /* only the supervisor writes it */
Word ack[WORKERS];          /* only the worker of the queue writes it */

/* Rings, one of each kind for each queue and path. A channel is a ring: its bound is the ring's. */
#define ring(queue, path) (2 * (queue) + (path))
chan fill[2 * WORKERS]     = [FRAMES] of { byte };
chan rx[2 * WORKERS]       = [FRAMES] of { byte };
chan tx[2 * WORKERS]       = [FRAMES] of { byte };
chan inside[2 * WORKERS]   = [FRAMES] of { byte };  /* not a ring: frames that the device is sending */
chan complete[2 * WORKERS] = [FRAMES] of { byte };

byte frameOwner[ALL_FRAMES];
byte number[ALL_FRAMES];    /* of the packet in the frame */

/* The VF, as the kernel has it. */
byte device;                /* counts VFs, as ifindexes do; the present one while `exists` */
bit exists, link, dying;
bit open, armed;            /* our sockets: the coordinator's */
byte openDevice;            /* the device that they are bound to */

/* Ledgers of each queue. */
byte arrived[WORKERS], decided[WORKERS], sent[WORKERS], lostInside[WORKERS], unknown[WORKERS], last[WORKERS];

/* Messages. */
mtype = { ATTACH, READY, OWN, DETACH, RECLAIM, SETTLE };
chan orders = [4] of { mtype, byte, byte };  /* to the supervisor: order, its device, and which coordinator asks */
mtype = { LEFT, ANSWER };
chan notices = [6] of { mtype, byte };       /* to the coordinator: the VF was left; its question is answered */
chan linkLost = [VISITS + 1] of { byte };    /* rtnetlink to the supervisor */
bit linkChanged;                             /* rtnetlink to the coordinator */
bit kickFailed;                              /* the queue's kickErrno */

bit platformDone;
byte deaths, coordinatorDeaths;

/* Shared by the supervisor and, after its death, the next coordinator. */
bit leftVf;                                  /* PortFailover.#left */
bit holdsDevice, holdsReady;                 /* the coordinator's checkpoint (PortHoldings) */

/* A path's rings are mapped while its sockets are open. Who touches them otherwise writes to a stale path. */
#define touch(path) assert(path == SYN || open)

inline onWire(queue, frame) {
  assert(number[frame] > last[queue]); /* neither twice nor out of order */
  last[queue] = number[frame];
  sent[queue]++
}

/* ---- The kernel --------------------------------------------------------------------------------------------------- */

proctype Kernel(byte queue) {
  byte frame;
end:
  do
  :: atomic { arrived[queue] < PACKETS && nempty(fill[ring(queue, SYN)]) ->
       fill[ring(queue, SYN)] ? frame;
       assert(frameOwner[frame] == FILL(SYN)); /* else it would write into a frame that is used elsewhere */
       number[frame] = 0;
       arrived[queue]++;
       rx[ring(queue, SYN)] ! frame; frame = 0 }
  :: atomic { arrived[queue] < PACKETS && open && armed && link && exists && device == openDevice &&
              nempty(fill[ring(queue, VF)]) ->
       fill[ring(queue, VF)] ? frame;
       assert(frameOwner[frame] == FILL(VF));
       number[frame] = 0;
       arrived[queue]++;
       rx[ring(queue, VF)] ! frame; frame = 0 }
  :: atomic { nempty(tx[ring(queue, SYN)]) ->
       tx[ring(queue, SYN)] ? frame;
       assert(frameOwner[frame] == TX(SYN));
       inside[ring(queue, SYN)] ! frame; frame = 0 }
  :: atomic { nempty(inside[ring(queue, SYN)]) ->
       inside[ring(queue, SYN)] ? frame;
       assert(frameOwner[frame] == TX(SYN));
       onWire(queue, frame);
       complete[ring(queue, SYN)] ! frame; frame = 0 }
  :: atomic { open && !dying && nempty(inside[ring(queue, VF)]) ->
       inside[ring(queue, VF)] ? frame;
       assert(frameOwner[frame] == TX(VF));
       complete[ring(queue, VF)] ! frame; frame = 0 }
  od
}

/* ---- The platform ------------------------------------------------------------------------------------------------- */

proctype Platform() {
  byte visit;
  do
  :: visit < VISITS ->
     visit++;
     atomic { device++; exists = 1; link = 0; dying = 0; linkChanged = 1 }   /* it is there, and not yet up */
     do
     :: atomic { !link -> link = 1; linkChanged = 1 }
     :: break
     od;
     if
     :: dying = 1                                                            /* by surprise: it already drops packets */
     :: skip
     fi;
     atomic { link = 0; exists = 0; linkLost ! device; linkChanged = 1 }
  :: else -> break
  od;
  platformDone = 1
}

/* ---- A worker ----------------------------------------------------------------------------------------------------- */

/* FramePool.put: a frame that is free already would be on the stack twice. */
inline put(frame) {
  assert(frameOwner[frame] != FREE);
  frameOwner[frame] = FREE;
  number[frame] = 0
}

/* The packet of a frame is given to a path: pushed, and published. */
inline push(path, frame) {
  touch(path);
  frameOwner[frame] = TX(path);
  tx[ring(queue, path)] ! frame
}

#define away(path) (len(fill[ring(queue, path)]) + len(rx[ring(queue, path)]))

inline refill(path) {
  touch(path);
  f = queue * FRAMES;
  do
  :: f < (queue + 1) * FRAMES ->
     if
     :: frameOwner[f] == FREE && away(path) < (FRAMES + 1) / 2 ->
        frameOwner[f] = FILL(path);
        fill[ring(queue, path)] ! f
     :: !(frameOwner[f] == FREE && away(path) < (FRAMES + 1) / 2)
     fi;
     f++
  :: else -> break
  od;
  f = 0
}

inline takeCompleted(path) {
  touch(path);
  do
  :: nempty(complete[ring(queue, path)]) ->
     complete[ring(queue, path)] ? f;
     assert(frameOwner[f] == TX(path));
     put(f)
  :: empty(complete[ring(queue, path)]) -> break
  od;
  f = 0
}

/* One packet through the handler, to the path that owns the queue. */
inline handle(path) {
  touch(path);
  rx[ring(queue, path)] ? f;
  assert(frameOwner[f] == FILL(path));
  decided[queue]++;
  number[f] = decided[queue];
  push(out, f);
  f = 0
}

/* sendto: the driver reads the transmit ring. */
inline kick() {
  touch(VF);
  if
  :: exists && device == openDevice && link ->
     if
     :: nempty(tx[ring(queue, VF)]) ->
        tx[ring(queue, VF)] ? f;
        assert(frameOwner[f] == TX(VF));
        if
        :: dying -> lostInside[queue]++ /* and it will never complete it */
        :: else -> onWire(queue, f); inside[ring(queue, VF)] ! f
        fi;
        f = 0
     :: empty(tx[ring(queue, VF)])
     fi
  :: else -> kickFailed = 1
  fi
}

#define mayDie (deaths < WORKER_DEATHS)

proctype Worker(byte queue) {
  byte f;
  Word order;
  bit out;    /* dispatch.out */
  bit hasVf;  /* OwnerSwitch.#queues[VF] */
  atomic { refill(SYN) }
end:
  do
  :: atomic { mayDie -> deaths++ };
died:
     /* takeOver: attaches what the last acknowledgement says, and goes on. The rings have their cursors in shared memory. */
     atomic {
       hasVf = ack[queue].polls;
       if :: hasVf -> touch(VF) :: else fi;
       out = ack[queue].path
     }
  :: d_step { nempty(rx[ring(queue, SYN)]) && owner[queue].epoch == ack[queue].epoch -> handle(SYN) }
  :: d_step { hasVf && nempty(rx[ring(queue, VF)]) && owner[queue].epoch == ack[queue].epoch -> handle(VF) }
  :: atomic { owner[queue].epoch == ack[queue].epoch &&
              (nempty(complete[ring(queue, SYN)]) ||
               (away(SYN) == 0 && arrived[queue] < PACKETS)) ->
       takeCompleted(SYN); refill(SYN) }
  :: atomic { hasVf && owner[queue].epoch == ack[queue].epoch &&
              (nempty(complete[ring(queue, VF)]) || nempty(tx[ring(queue, VF)])) && !kickFailed ->
       takeCompleted(VF); refill(VF); kick() }
  :: owner[queue].epoch != ack[queue].epoch ->
     atomic {
       order.epoch = owner[queue].epoch; order.path = owner[queue].path;
       order.polls = owner[queue].polls; order.reclaim = owner[queue].reclaim
     };
     /* #reclaim */
     if
     :: order.reclaim ->
        atomic {
          f = queue * FRAMES;
          do
          :: f < (queue + 1) * FRAMES ->
             if
             :: frameOwner[f] == FILL(VF) || frameOwner[f] == TX(VF) ->
                assert(!open); /* else the kernel still has it */
                if :: frameOwner[f] == TX(VF) -> unknown[queue]++ :: else fi;
                put(f)
             :: else
             fi;
             f++
          :: else -> break
          od;
          f = 0
        }
     :: else
     fi;
     if :: mayDie -> deaths++; goto died :: else fi;
     /* #attachNew */
     atomic {
       if
       :: order.polls && !hasVf -> hasVf = 1; kickFailed = 0; refill(VF)
       :: else
       fi
     };
     if :: mayDie -> deaths++; goto died :: else fi;
#ifndef NO_SETTLE
     /* #isSettled: packets that were given to the synthetic path first, then those of the VF */
     if
     :: out == SYN && order.path == VF ->
        atomic {
          takeCompleted(SYN);
          if
          :: nempty(tx[ring(queue, SYN)]) || nempty(inside[ring(queue, SYN)]) -> goto again
          :: empty(tx[ring(queue, SYN)]) && empty(inside[ring(queue, SYN)])
          fi
        }
     :: else
     fi;
#endif
     out = order.path;
     if
     :: hasVf && !order.polls ->
        /* #rescue */
#ifndef NO_RESCUE
        do
        :: d_step { nempty(tx[ring(queue, VF)]) ->
             touch(VF);
             tx[ring(queue, VF)] ? f;
             assert(frameOwner[f] == TX(VF));
             push(out, f); f = 0 }
        :: empty(tx[ring(queue, VF)]) -> break
        od;
#endif
        if :: mayDie -> deaths++; goto died :: else fi;
        /* #drain */
#ifndef NO_DRAIN
        do
        :: d_step { nempty(rx[ring(queue, VF)]) -> handle(VF) }
        :: empty(rx[ring(queue, VF)]) -> break
        od;
#endif
        if :: mayDie -> deaths++; goto died :: else fi;
        atomic { takeCompleted(VF); hasVf = 0 }
     :: else
     fi;
     if :: mayDie -> deaths++; goto died :: else fi;
     atomic {
       ack[queue].epoch = order.epoch; ack[queue].path = order.path;
       ack[queue].polls = order.polls; ack[queue].reclaim = order.reclaim
     };
again:
     skip
  od
}

/* ---- The supervisor ----------------------------------------------------------------------------------------------- */

/* A promise of `PortFailover.execute`, of one coordinator: what it waits for next, and the epoch of that. */
typedef Task {
  byte stage; /* 0: none; 1: reclaim waits until the VF is left; 2: until it is reclaimed; 3: until all is carried out */
  byte epoch;
  byte left   /* which object in #left it has set */
}
Task task[COORDINATOR_DEATHS + 1];

#if WORKERS == 1
#define carriedOut(e) (ack[0].epoch >= e)
#define allReclaimed  (ack[0].reclaim)
#else
#define carriedOut(e) (ack[0].epoch >= e && ack[1].epoch >= e)
#define allReclaimed  (ack[0].reclaim && ack[1].reclaim)
#endif

/* Ownership.#order */
inline order() {
  epoch++;
  q = 0;
  do
  :: q < WORKERS ->
     owner[q].epoch = epoch; owner[q].path = path; owner[q].polls = polls; owner[q].reclaim = reclaim;
     q++
  :: else -> break
  od;
  q = 0
}

/* PortFailover.#leave */
inline leave() {
  if
  :: polled ->
     polled = 0; ready = 0; leftVf = 1; leftCount++;
     polls = 0; path = SYN;
     order()
  :: else
  fi
}

/* PortFailover.#lose */
inline lose() {
  leave();
  notices ! LEFT(0)
}

/* Ownership.#acknowledged, when its promise resolves */
inline forgetReclaimed() {
  if :: allReclaimed -> reclaim = 0 :: else fi
}

inline advance(life) {
  forgetReclaimed();
  if
  :: task[life].stage == 1 ->
     reclaim = 1;
     order();
     task[life].stage = 2; task[life].epoch = epoch
  :: task[life].stage == 2 ->
     if :: task[life].left == leftCount -> leftVf = 0 :: else fi;
     task[life].stage = 3; task[life].epoch = epoch
  :: else ->
     task[life].stage = 0; task[life].epoch = 0; task[life].left = 0;
     if :: life == coordinatorDeaths -> notices ! ANSWER(life) :: else fi
  fi
}

#define canAdvance(life) (task[life].stage > 0 && carriedOut(task[life].epoch))

proctype Supervisor() {
  byte epoch, leftCount, q, which, life;
  bit path, polls, reclaim;      /* Ownership */
  bit polled, ready;             /* PortFailover.#polled */
  byte polledDevice;
  mtype what;
end:
  do
  :: atomic { orders ? what(which, life) ->
       if
       :: what == ATTACH ->
          if
          :: leftVf -> notices ! LEFT(0) /* to be closed and reclaimed first */
          :: !leftVf && !polled -> polled = 1; ready = 0; polledDevice = which; polls = 1; order()
          :: else
          fi
       :: what == READY ->
          if
          :: polled -> ready = 1; if :: kickFailed -> lose() :: else fi
          :: else
          fi
       :: what == OWN ->
          if :: polled -> path = VF; order() :: else fi
       :: what == DETACH -> leave()
       :: what == RECLAIM ->
          leave();
          leftVf = 1; leftCount++
       :: what == SETTLE
       fi;
       if
       :: what == READY || what == DETACH
       :: else ->
          task[life].stage = (what == RECLAIM -> 1 : 3);
          task[life].epoch = epoch;
          task[life].left = leftCount
       fi;
       which = 0; life = 0; what = 0 }
  :: atomic { linkLost ? which ->
       if :: polled && which == polledDevice -> lose() :: else fi; which = 0 }
  :: atomic { kickFailed && polled && ready -> lose() }
  :: atomic { canAdvance(0) -> advance(0) }
#if COORDINATOR_DEATHS > 0
  :: atomic { canAdvance(1) && !canAdvance(0) -> advance(1) }
#endif
  od
}

/* ---- The coordinator ---------------------------------------------------------------------------------------------- */

/* Socket and rings of the VF are gone, and the kernel holds none of their frames any more. */
inline closeSockets() {
  atomic {
    open = 0; armed = 0;
    q = 0;
    do
    :: q < WORKERS ->
       do :: nempty(fill[ring(q, VF)]) -> fill[ring(q, VF)] ? f :: empty(fill[ring(q, VF)]) -> break od;
       do :: nempty(rx[ring(q, VF)]) -> rx[ring(q, VF)] ? f :: empty(rx[ring(q, VF)]) -> break od;
       do :: nempty(tx[ring(q, VF)]) -> tx[ring(q, VF)] ? f :: empty(tx[ring(q, VF)]) -> break od;
       do :: nempty(inside[ring(q, VF)]) -> inside[ring(q, VF)] ? f :: empty(inside[ring(q, VF)]) -> break od;
       do :: nempty(complete[ring(q, VF)]) -> complete[ring(q, VF)] ? f :: empty(complete[ring(q, VF)]) -> break od;
       q++
    :: else -> break
    od;
    q = 0; f = 0
  }
}

/* ManagedPort.left */
inline left() {
  attached = 0;
  if :: holdsDevice -> broken = 1 :: else fi
}

/* react */
inline react() {
  broken = 1;
  if :: attached -> attached = 0; orders ! DETACH(openDevice, coordinatorDeaths) :: else fi
}

/* ManagedPort.changed */
inline changed() {
  linkChanged = 0;
  if
  :: holdsDevice && !broken && (!exists || device != openDevice) -> react()
  :: else
  fi
}

/* Sends an order and waits for the answer. What happens meanwhile only marks the path. */
inline ask(what) {
  orders ! what(openDevice, coordinatorDeaths);
  do
  :: atomic { notices ? LEFT(_) -> left() }
  :: notices ? ANSWER(_) -> break
  :: atomic { linkChanged -> changed() }
  :: coordinatorDeaths < COORDINATOR_DEATHS -> goto died
  od
}

proctype Coordinator() {
  bit attached, broken, ready;
  byte q, f;
end:
  do
  :: coordinatorDeaths < COORDINATOR_DEATHS ->
died:
     /* Supervisor.#startCoordinator. Node delivers all messages of a thread before it says that the thread has ended. */
     atomic {
#ifndef LATE_ORDERS
       empty(orders) ->
#endif
       coordinatorDeaths++;
       do :: notices ? _(_) :: empty(notices) -> break od;
       if :: leftVf -> notices ! LEFT(0) :: else fi
     };
     atomic { /* ManagedPort.adopt and resume */
       attached = owner[0].polls; broken = 0; ready = holdsReady; linkChanged = 1;
       if
       :: holdsDevice && ready && attached -> orders ! READY(openDevice, coordinatorDeaths)
       :: holdsDevice && !(ready && attached) -> react()
       :: else
       fi
     }
  :: atomic { notices ? LEFT(_) -> left() }
  :: atomic { linkChanged -> changed() }
  :: holdsDevice && broken -> /* closePath */
#ifndef NO_ACKNOWLEDGE
     ask(SETTLE);
#endif
     ready = 0; holdsReady = 0;
#ifdef RECLAIM_EARLY
     ask(RECLAIM);
     closeSockets();
#else
     closeSockets();
     ask(RECLAIM);
#endif
     atomic { holdsDevice = 0; broken = 0; linkChanged = 1 }
  :: atomic { !holdsDevice && !broken && exists -> /* PathOpener.#openDevice, whether it has a link or not */
       open = 1; armed = 0; openDevice = device; holdsDevice = 1 }
  :: holdsDevice && !broken && !attached -> attached = 1; ask(ATTACH)
  :: atomic { holdsDevice && !broken && attached && !ready && link && exists && device == openDevice ->
       armed = 1; ready = 1; holdsReady = 1; orders ! READY(openDevice, coordinatorDeaths) }
  :: atomic { holdsDevice && !broken && attached && ready && owner[0].path != VF -> skip }; ask(OWN)
  od
}

/* ---- What must hold ----------------------------------------------------------------------------------------------- */

/* When nothing can happen any more. */
proctype AtTheEnd() {
  byte queue, f, filled;
  timeout ->
  assert(platformDone);
  assert(!open && !holdsDevice && !leftVf);
  do
  :: queue < WORKERS ->
     assert(owner[queue].epoch == ack[queue].epoch); /* every switch has ended */
     assert(owner[queue].path == SYN && !owner[queue].polls);
     assert(arrived[queue] == PACKETS);              /* else frames are missing to receive into */
     assert(decided[queue] == PACKETS);
     assert(sent[queue] + lostInside[queue] == decided[queue]);
     assert(lostInside[queue] <= unknown[queue]);    /* each loss is counted */
     f = queue * FRAMES; filled = 0;
     do
     :: f < (queue + 1) * FRAMES ->
        assert(frameOwner[f] == FREE || frameOwner[f] == FILL(SYN));
        if :: frameOwner[f] == FILL(SYN) -> filled++ :: else fi;
        f++
     :: else -> break
     od;
     assert(filled == len(fill[ring(queue, SYN)]));
     queue++
  :: else -> break
  od
}

init {
  atomic {
    run Supervisor(); run Coordinator(); run Platform(); run Kernel(0); run Worker(0);
#if WORKERS > 1
    run Kernel(1); run Worker(1);
#endif
    run AtTheEnd()
  }
}

#ifdef LIVENESS
/* Checked with weak fairness: no thread is kept from running for ever. */
ltl every_switch_ends { [] ((owner[0].epoch != ack[0].epoch) -> <> (owner[0].epoch == ack[0].epoch)) }
#endif
