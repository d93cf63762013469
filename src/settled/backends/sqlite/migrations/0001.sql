-- One row per task. A write moves its row to the end: `seq` is the order of the latest writes,
-- which is what a listing shows and what waiters read on from. The row with the highest `seq` is
-- never deleted, so that no `seq` is given out twice.
--
-- All times are UTC seconds since the epoch.
CREATE TABLE settled_task (
    seq       INTEGER PRIMARY KEY,
    task_id   TEXT NOT NULL UNIQUE,
    state     TEXT,               -- NULL: the record is gone, see `gone`
    gone      TEXT,               -- 'expired' or 'forgotten'; the row is deleted at `expires`
    name      TEXT,
    worker    TEXT,
    queue     TEXT,
    group_id  TEXT,
    parent_id TEXT,
    root_id   TEXT,
    attempt   INTEGER NOT NULL,
    created   REAL NOT NULL,      -- the first write
    updated   REAL NOT NULL,      -- the latest write
    started   REAL,               -- the first write of STARTED
    done      REAL,               -- when it became ready; NULL: it is not
    expires   REAL,               -- NULL: never
    size      INTEGER NOT NULL,   -- bytes of the record
    record    ANY                 -- TEXT: JSON, BLOB: another serializer, compressed or sealed
) STRICT;

-- Partial, because each further index costs every write a page.
CREATE INDEX settled_task_state   ON settled_task (state) WHERE state <> 'SUCCESS';
CREATE INDEX settled_task_group   ON settled_task (group_id) WHERE group_id IS NOT NULL;
CREATE INDEX settled_task_parent  ON settled_task (parent_id) WHERE parent_id IS NOT NULL;

-- Where to look for what has expired: for each 1,024 places in the order of writes, the soonest
-- `expires` in it (or one sooner). An index on `expires` would cost every write a page; this costs
-- nearly none, as what is written later mostly expires later.
CREATE TABLE settled_expiry (
    block   INTEGER PRIMARY KEY,  -- seq / 1024
    soonest REAL NOT NULL
) STRICT;

CREATE INDEX settled_expiry_soonest ON settled_expiry (soonest);

CREATE TRIGGER settled_task_inserted AFTER INSERT ON settled_task
WHEN new.expires < coalesce((SELECT soonest FROM settled_expiry WHERE block = new.seq >> 10), 9e999)
BEGIN
    INSERT INTO settled_expiry (block, soonest) VALUES (new.seq >> 10, new.expires)
    ON CONFLICT (block) DO UPDATE SET soonest = excluded.soonest;
END;

CREATE TRIGGER settled_task_updated AFTER UPDATE OF seq, expires ON settled_task
WHEN new.expires < coalesce((SELECT soonest FROM settled_expiry WHERE block = new.seq >> 10), 9e999)
BEGIN
    INSERT INTO settled_expiry (block, soonest) VALUES (new.seq >> 10, new.expires)
    ON CONFLICT (block) DO UPDATE SET soonest = excluded.soonest;
END;

CREATE TABLE settled_group (
    group_id TEXT NOT NULL PRIMARY KEY,
    created  REAL NOT NULL,
    expires  REAL,
    record   ANY NOT NULL
) STRICT;

CREATE INDEX settled_group_expires ON settled_group (expires) WHERE expires IS NOT NULL;

-- The barrier of a chord. The counters repeat what settled_part says, so that each part costs the same.
CREATE TABLE settled_chord (
    group_id      TEXT NOT NULL PRIMARY KEY,
    created       REAL NOT NULL,
    size          INTEGER NOT NULL,
    counted       INTEGER NOT NULL DEFAULT 0,
    failed        INTEGER NOT NULL DEFAULT 0,
    policy        TEXT NOT NULL,  -- 'first', 'all' or 'outcomes'
    body_id       TEXT NOT NULL,
    token         TEXT,           -- who may dispatch the body
    claim_expires REAL NOT NULL DEFAULT 0,
    done          REAL
) STRICT;

-- What is complete and not dispatched: empty but for the moment in which a body is sent.
CREATE INDEX settled_chord_due ON settled_chord (claim_expires)
    WHERE done IS NULL AND (counted >= size OR (failed > 0 AND policy = 'first'));
CREATE INDEX settled_chord_done ON settled_chord (done) WHERE done IS NOT NULL;

-- Apart from the chord's row, which is written anew for every part.
CREATE TABLE settled_body (
    group_id TEXT NOT NULL PRIMARY KEY,
    body     ANY NOT NULL
) STRICT;

-- A task may stand at several places of a header. `state` is what it was counted as.
CREATE TABLE settled_part (
    group_id TEXT NOT NULL,
    task_id  TEXT NOT NULL,
    place    INTEGER NOT NULL,
    state    TEXT,
    PRIMARY KEY (group_id, task_id, place)
) STRICT, WITHOUT ROWID;

CREATE INDEX settled_part_task ON settled_part (task_id);

CREATE TABLE settled_lease (
    name    TEXT NOT NULL PRIMARY KEY,
    token   TEXT NOT NULL,
    expires REAL NOT NULL
) STRICT, WITHOUT ROWID;
