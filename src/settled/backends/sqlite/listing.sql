-- Listings: `page` with one condition for each field of the query that is given.

-- name: page
-- A `+` keeps SQLite from walking the whole table in order where an index finds the few rows meant.
SELECT seq, task_id, state, name, worker, queue, group_id, parent_id, root_id,
    attempt, created, started, done, expires, size
FROM settled_task
WHERE gone IS NULL AND (expires IS NULL OR expires > ?) AND seq < ?

-- name: states
state IN (SELECT value FROM json_each(?))

-- name: unsuccessful
-- Implied by the states asked for; said so that the partial index may be used.
state <> 'SUCCESS'

-- name: name
name = ?

-- name: worker
worker = ?

-- name: group_id
group_id = ?

-- name: parent_id
parent_id = ?

-- name: since
updated >= ?

-- name: until
updated < ?
