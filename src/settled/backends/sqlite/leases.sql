-- Named leases.

-- name: take
INSERT INTO settled_lease (name, token, expires)
SELECT value, :token, :expires FROM json_each(:names) WHERE true
ON CONFLICT (name) DO UPDATE SET token = excluded.token, expires = excluded.expires
WHERE settled_lease.token = excluded.token OR settled_lease.expires <= :now
RETURNING name;

-- name: release
DELETE FROM settled_lease WHERE token = :token AND name IN (SELECT value FROM json_each(:names));
