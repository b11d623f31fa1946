--[[
What both writing scripts need: errors in words, and what is to be forgotten. It stands before each of them.

KEYS  1 records (hash)   2 log (stream)   3 due (sorted set)   4 idle (sorted set of the namespace)

  due   the records of pending keys, and the outcomes of calls, by when to forget them, in milliseconds. A member that
        is never due, the empty one, keeps the set from vanishing while the map has data.
  idle  the names of the maps that have something to forget, by when to look at them
]]

local try, type, KEYS, ARGV = redis.pcall, type, KEYS, ARGV
local byte, find, format, match, sub = string.byte, string.find, string.format, string.match, string.sub
local records, log, due, idle = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local HEAD = '\0head'

-- Returns the text of the error that a reply is, with the name that it is about; or nothing.
local function failure(reply, name)
  if type(reply) ~= 'table' or not reply.err then return end
  -- Redis 6.2 puts the line of the script before the code.
  local text = string.gsub(reply.err, '^@user_script: %d+: %-?', '') .. ' (' .. name .. ')'
  -- Outside of scripts a missing permission has a code of its own; in them, each version has other words for it.
  if find(text, 'user executing the script', 1, true) or find(text, 'ACL failure in script', 1, true) then
    return 'NOPERM ' .. string.gsub(text, '^ERR ', '')
  end
  return text
end

-- Puts back what stood in a field; nothing, if nothing stood there. Only the records of pending keys, and outcomes, are
-- due some time.
local function restore(field, old)
  if old then try('HSET', records, field, old) else try('HDEL', records, field) end
  if not old or find(old, '^%["f') then try('ZREM', due, field) end
end

-- Forgets at most `most` of what is due by `now`, in milliseconds. An outcome is kept for `life` after its call. Junk
-- in the place of the set, or in it, must not cost the calls of this batch their outcome.
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
      if find(field, '^%z') or find(value, '^%["[pr]') then try('HDEL', records, field) end
      try('ZREM', due, field)
    end
  end
end
