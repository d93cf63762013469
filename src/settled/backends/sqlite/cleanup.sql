-- Deleting what has expired, in batches: each statement is short, so that no writer waits for long.

-- name: anything
-- Whether there is anything to do: a look that takes no lock.
SELECT EXISTS (SELECT 1 FROM settled_task WHERE expires <= :now)
    OR EXISTS (SELECT 1 FROM settled_group WHERE expires <= :now)
    OR EXISTS (SELECT 1 FROM settled_chord WHERE done <= :marker)
    OR EXISTS (SELECT 1 FROM settled_lease WHERE expires <= :now);

-- name: expired
SELECT seq, task_id FROM settled_task WHERE expires <= :now AND gone IS NULL ORDER BY expires LIMIT :limit;

-- name: expire
-- The records go, tombstones stay until the time given.
UPDATE settled_task SET
    state = NULL, gone = 'expired', name = NULL, worker = NULL, queue = NULL, group_id = NULL,
    parent_id = NULL, root_id = NULL, started = NULL, done = NULL, expires = :until, size = 0, record = NULL
WHERE seq IN (SELECT value FROM json_each(:seqs));

-- name: tombstones
-- The row with the highest seq stays: its seq must not be given out again.
DELETE FROM settled_task WHERE seq IN (
    SELECT seq FROM settled_task
    WHERE expires <= :now AND gone IS NOT NULL AND seq < (SELECT max(seq) FROM settled_task)
    LIMIT :limit
);

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
