-- Saved groups.

-- name: write
INSERT INTO settled_group (group_id, created, expires, record)
VALUES (:group_id, :now, :expires, :record)
ON CONFLICT (group_id) DO UPDATE SET expires = excluded.expires, record = excluded.record;

-- name: read
SELECT record FROM settled_group WHERE group_id = :group_id AND (expires IS NULL OR expires > :now);

-- name: delete
DELETE FROM settled_group WHERE group_id = :group_id;
