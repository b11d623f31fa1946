--[[
What the writing scripts share: error texts, and forgetting of expired data. It is prepended to each of them.

KEYS  1 records (hash)   2 log (stream)   3 due (sorted set)   4 idle (sorted set of the namespace)
      5 entries (sorted set)

  due      the records of pending keys and the outcomes of calls, by the time at which to forget them, in milliseconds.
           The keys of events that have a TTL, by LATER and the time at which they end. "\0lease:LEASE", by LEASES and
           the time of the lease clock at which the lease ends. The empty member never expires: it keeps the set in
           existence while the map has data.
  idle     the names of the maps that have data to forget or events to end, by the time at which to sweep them
  entries  all with the score 0, so that they can be found by their beginnings: "KEY\0SEQUENCE\0HOLDER" for each holder
           of a key, in their order, "\0LEASE\0HOLDER" for each holder under a lease (with \1 in place of the second
           \0, if it owns a lock and was evicted), and "KEY\0who\0NAME" for each name that has counted. The empty member keeps the set in existence once a name has.
]]

local try, type, KEYS, ARGV = redis.pcall, type, KEYS, ARGV
local byte, find, format, gsub, match, sub =
  string.byte, string.find, string.format, string.gsub, string.match, string.sub
local records, log, due, idle, entries = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local HEAD = '\0head'
-- 2^50: higher than any time in milliseconds, and the sum of both is exact in a double.
local LATER = 1125899906842624
local LEASES = 2 * LATER

-- Returns the text of an error reply, with the name that it is about; nil if the reply is not an error.
local function failure(reply, name)
  if type(reply) ~= 'table' or not reply.err then return end
  -- Redis 6.2 puts the line of the script before the code.
  local text = gsub(reply.err, '^@user_script: %d+: %-?', '') .. ' (' .. name .. ')'
  -- Outside of scripts a missing permission has a code of its own; inside, each version has another text.
  if find(text, 'user executing the script', 1, true) or find(text, 'ACL failure in script', 1, true) then
    return 'NOPERM ' .. gsub(text, '^ERR ', '')
  end
  return text
end

-- Restores a field to its old value, or removes it if there was none. Into the due set belong pending records, outcomes
-- and events that have a TTL; `score` is what such an event had there.
local function restore(field, old, score)
  if old then try('HSET', records, field, old) else try('HDEL', records, field) end
  if not old or find(old, '^%["[fc]') then try('ZREM', due, field) end
  if score then try('ZADD', due, score, field) end
end

-- Forgets at most `most` members of the due set that have expired by `now`, in milliseconds. An outcome is remembered
-- for `life` after its batch. Foreign data in the set, or in its place, must not fail the batch.
local function forget(now, life, most)
  local expired = try('ZRANGEBYSCORE', due, '-inf', now, 'LIMIT', 0, most)
  if #expired == 0 then return end
  local fields = try('HMGET', records, unpack(expired))
  for i, field in ipairs(expired) do
    local value = fields[i] or ''
    local called = match(value, '^%d+\n%d+ %d+ (%d+)%d%d%d\n')
    if called and called + life > now + 0 then
      try('ZADD', due, format('%.0f', called + life), field)
    else
      if find(field, '^%z') or find(value, '^%["[prew]') then try('HDEL', records, field) end
      try('ZREM', due, field)
    end
  end
end
