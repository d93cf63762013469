-- The barriers of chords.

-- name: open
INSERT INTO settled_chord (group_id, created, size, policy, body_id)
VALUES (:group_id, :now, :size, :policy, :body_id)
ON CONFLICT DO NOTHING;

-- name: add_body
INSERT INTO settled_body (group_id, body) VALUES (:group_id, :body);

-- name: add_parts
-- The header's places from :first on.
INSERT INTO settled_part (group_id, task_id, place)
SELECT :group_id, value, key + :first FROM json_each(:task_ids);

-- name: present
-- Which of these tasks are in the header.
SELECT task_id FROM settled_part
WHERE group_id = :group_id AND task_id IN (SELECT value FROM json_each(:task_ids));

-- name: enlarge
UPDATE settled_chord SET size = :size WHERE group_id = :group_id;

-- name: standing
SELECT size, counted, failed, policy, token, claim_expires
FROM settled_chord WHERE group_id = :group_id AND done IS NULL;

-- name: part
-- An open barrier, once for each place at which the task stands in its header.
SELECT size, counted, failed, policy, token, claim_expires, part.state
FROM settled_chord AS chord
JOIN settled_part AS part USING (group_id)
WHERE chord.group_id = :group_id AND chord.done IS NULL AND part.task_id = :task_id;

-- name: count_part
-- A state once counted gives way to another; SUCCESS does not.
UPDATE settled_part SET state = :state
WHERE group_id = :group_id AND task_id = :task_id AND state IS NOT 'SUCCESS';

-- name: update
UPDATE settled_chord SET counted = :counted, failed = :failed, token = :token, claim_expires = :claim_expires
WHERE group_id = :group_id;

-- name: settled_members
-- Which of these tasks are settled, from their records.
SELECT task.task_id, task.state
FROM json_each(:task_ids) AS wanted
CROSS JOIN settled_task AS task ON task.task_id = wanted.value
WHERE task.done IS NOT NULL AND (task.expires IS NULL OR task.expires > :now);

-- name: count_all
-- Every part anew, from the records.
UPDATE settled_part SET state = task.state
FROM settled_task AS task
WHERE settled_part.group_id = :group_id AND settled_part.state IS NOT 'SUCCESS'
    AND task.task_id = settled_part.task_id
    AND task.done IS NOT NULL AND (task.expires IS NULL OR task.expires > :now);

-- name: totals
SELECT count(state), coalesce(sum(state <> 'SUCCESS'), 0) FROM settled_part WHERE group_id = :group_id;

-- name: waited_for
-- Where one of these tasks is a part that an open barrier still waits for.
SELECT DISTINCT part.group_id, part.task_id
FROM json_each(:task_ids) AS gone
CROSS JOIN settled_part AS part ON part.task_id = gone.value
JOIN settled_chord AS chord USING (group_id)
WHERE part.state IS NULL AND chord.done IS NULL;

-- name: read
SELECT chord.policy, chord.body_id, chord.done IS NOT NULL, body.body
FROM settled_chord AS chord LEFT JOIN settled_body AS body USING (group_id)
WHERE chord.group_id = :group_id;

-- name: read_parts
SELECT task_id, state FROM settled_part WHERE group_id = :group_id ORDER BY place;

-- name: finish
UPDATE settled_chord SET done = :now, token = NULL, claim_expires = 0
WHERE group_id = :group_id AND done IS NULL;

-- name: due
-- The index settled_chord_due holds exactly these rows; its condition is repeated word for word.
SELECT group_id FROM settled_chord
WHERE done IS NULL AND (counted >= size OR (failed > 0 AND policy = 'first')) AND claim_expires <= :now
ORDER BY claim_expires LIMIT :limit;

-- name: delete_parts
DELETE FROM settled_part WHERE group_id = :group_id;

-- name: delete_body
DELETE FROM settled_body WHERE group_id = :group_id;

-- name: delete
DELETE FROM settled_chord WHERE group_id = :group_id;
