-- uses: guard, barrier
-- Set the done marker; the members and the body go. KEYS: the chord's. ARGV: group id.
finish(chord_at(1, ARGV[1]))
