-- Deleting what has expired, in batches: each statement is short, so that no writer waits for long.

-- name: anything
-- Whether there is anything but records to drop: a look that takes no lock.
SELECT EXISTS (SELECT 1 FROM settled_group WHERE expires <= :now)
    OR EXISTS (SELECT 1 FROM settled_chord WHERE done <= :marker)
    OR EXISTS (SELECT 1 FROM settled_lease WHERE expires <= :now);

-- name: blocks
-- Where something may have expired, the longest expired first.
SELECT block FROM settled_expiry WHERE soonest <= :now ORDER BY soonest;

-- name: expired
SELECT seq, task_id, gone IS NULL FROM settled_task
WHERE seq BETWEEN :block << 10 AND (:block << 10) + 1023 AND expires <= :now
LIMIT :limit;

-- name: expire
-- The records go, tombstones stay until the time given.
UPDATE settled_task SET
    state = NULL, gone = 'expired', name = NULL, worker = NULL, queue = NULL, group_id = NULL,
    parent_id = NULL, root_id = NULL, started = NULL, done = NULL, expires = :until, size = 0, record = NULL
WHERE seq IN (SELECT value FROM json_each(:seqs));

-- name: bury
-- The row with the highest seq stays: its seq must not be given out again.
DELETE FROM settled_task
WHERE seq IN (SELECT value FROM json_each(:seqs)) AND seq < (SELECT max(seq) FROM settled_task);

-- name: stay
-- Of the tombstones just buried that can only be the highest row: it is looked at again later.
UPDATE settled_task SET expires = :until WHERE seq IN (SELECT value FROM json_each(:seqs));

-- name: look_again
-- When the block is looked at next; never, if nothing in it expires.
INSERT OR REPLACE INTO settled_expiry (block, soonest)
SELECT :block, soonest FROM (
    SELECT min(expires) AS soonest FROM settled_task
    WHERE seq BETWEEN :block << 10 AND (:block << 10) + 1023
) WHERE soonest IS NOT NULL;

-- name: look_no_more
DELETE FROM settled_expiry WHERE block = :block;

-- name: groups
DELETE FROM settled_group WHERE group_id IN (
    SELECT group_id FROM settled_group WHERE expires <= :now LIMIT :limit
);

-- name: parts
-- Chords done long ago, their parts first.
DELETE FROM settled_part WHERE (group_id, task_id, place) IN (
    SELECT part.group_id, part.task_id, part.place
    FROM settled_chord AS chord CROSS JOIN settled_part AS part USING (group_id)
    WHERE chord.done <= :marker
    LIMIT :limit
);

-- name: bodies
DELETE FROM settled_body WHERE group_id IN (
    SELECT group_id FROM settled_chord WHERE done <= :marker LIMIT :limit
);

-- name: chords
DELETE FROM settled_chord WHERE group_id IN (
    SELECT group_id FROM settled_chord AS chord
    WHERE done <= :marker
        AND NOT EXISTS (SELECT 1 FROM settled_part AS part WHERE part.group_id = chord.group_id)
        AND NOT EXISTS (SELECT 1 FROM settled_body AS body WHERE body.group_id = chord.group_id)
    LIMIT :limit
);

-- name: leases
DELETE FROM settled_lease WHERE name IN (
    SELECT name FROM settled_lease WHERE expires <= :now LIMIT :limit
);
