-- The records of tasks.

-- name: settle
-- The transition rule (settled.states.may_replace) and the record in one statement: it changes one
-- row if the write lands and none if it does not. A row that has expired or is gone is left to `revive`.
INSERT INTO settled_task AS task (
    task_id, state, name, worker, queue, group_id, parent_id, root_id, attempt,
    created, updated, started, done, expires, size, record
)
VALUES (
    :task_id, :state, :name, :worker, :queue, :group_id, :parent_id, :root_id, :attempt,
    :now, :now, :started, :done, :expires, :size, :record
)
ON CONFLICT (task_id) DO UPDATE SET
    seq = excluded.seq,
    state = excluded.state,
    name = coalesce(excluded.name, task.name),
    worker = coalesce(excluded.worker, task.worker),
    queue = coalesce(excluded.queue, task.queue),
    group_id = coalesce(excluded.group_id, task.group_id),
    parent_id = coalesce(excluded.parent_id, task.parent_id),
    root_id = coalesce(excluded.root_id, task.root_id),
    attempt = excluded.attempt,
    updated = excluded.updated,
    started = coalesce(task.started, excluded.started),
    done = excluded.done,
    expires = excluded.expires,
    size = excluded.size,
    record = excluded.record
WHERE task.gone IS NULL
    AND (task.expires IS NULL OR task.expires > :now)
    AND CASE
        WHEN task.done IS NULL
            THEN :rank >= CASE task.state WHEN 'PENDING' THEN 0 WHEN 'RECEIVED' THEN 1 ELSE 2 END
        WHEN task.state = 'SUCCESS' THEN 0
        ELSE :rank = 3 AND excluded.attempt >= task.attempt
    END;

-- name: standing
-- The state that a write did not get past, whether the row still counts as a record, and whether it is this
-- very write, made before and repeated since its answer was lost.
SELECT state, gone IS NULL AND (expires IS NULL OR expires > :now), state = :state AND record = :record
FROM settled_task WHERE task_id = :task_id;

-- name: revive
-- Empty a row that has expired or is gone: what is written next is the first write of a fresh record.
UPDATE settled_task SET
    state = 'PENDING', gone = NULL, name = NULL, worker = NULL, queue = NULL, group_id = NULL,
    parent_id = NULL, root_id = NULL, attempt = 0, created = :now, started = NULL, done = NULL, expires = NULL
WHERE task_id = :task_id;

-- name: read
SELECT gone, expires, record FROM settled_task WHERE task_id = :task_id;

-- name: read_many
-- The ids come as a JSON array: one statement for any number of them.
SELECT task.task_id, task.gone, task.expires, task.record
FROM json_each(:task_ids) AS wanted
CROSS JOIN settled_task AS task ON task.task_id = wanted.value;

-- name: forget
-- The record goes, a tombstone stays until the time given.
UPDATE settled_task SET
    state = NULL, gone = 'forgotten', name = NULL, worker = NULL, queue = NULL, group_id = NULL,
    parent_id = NULL, root_id = NULL, started = NULL, done = NULL, expires = :until, size = 0, record = NULL
WHERE gone IS NULL AND task_id IN (SELECT value FROM json_each(:task_ids));

-- name: newest
SELECT coalesce(max(seq), 0) FROM settled_task;

-- name: ready_since
SELECT seq, task_id FROM settled_task WHERE seq > :seq AND done IS NOT NULL LIMIT :limit;
