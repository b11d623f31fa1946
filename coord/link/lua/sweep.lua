--[[
Forgets expired data of one map, and returns what is over, for a call to end each: events whose TTL is over, and holders
whose lease is. If nothing else is left, only the head and the lease clock stay. due.lua and clock.lua are prepended.

KEYS  see due.lua
ARGV  1 the name of the map   2 the most members to forget, and the most events and holders to return
      3 life of an outcome, milliseconds

Reply {NEXT, PASSED, LETTER, KEY, DATA, ...}: the milliseconds until the lease clock has to be looked at again (0: it
need not be), those since the last look, and what apply.lua takes to end an event (E) or a holder (D) each

A head with the process "-" means that the map is not in the idle set: the next call adds it.
]]

local most, clock, last_look = ARGV[2] + 0, look()
forget(format('%.0f', now.ms), ARGV[3], most)
if clock then redis.call('HSET', records, CLOCK, encode(clock)) end

local calls = {0, last_look or 0}
local function add(letter, key, data)
  calls[#calls + 1], calls[#calls + 2], calls[#calls + 3] = letter, key, data
end

-- Adds the events whose TTL is over. What is not such an event, or cannot be a key, is removed from the due set.
local function find_events()
  local keys = redis.call('ZRANGEBYSCORE', due, LATER, format('%.0f', LATER + now.ms), 'LIMIT', 0, most)
  for _, key in ipairs(keys) do
    local record = redis.call('HGET', records, key) or ''
    local kind, revision = match(record, '^%["(%l+)",%[(%d+,%d+)%],[^\n]*"ttl":%d')
    local possible = key ~= '' and not find(key, '%c') and not find(key, '\194[\128-\159]')
    if possible and (kind == 'fired' or kind == 'failed') then
      add('E', key, revision)
    elseif key == '' then
      redis.call('ZADD', due, 'inf', '')
    else
      redis.call('ZREM', due, key)
    end
  end
end

-- Adds the holders whose lease is over. A lease that has none is removed.
local function find_holders()
  local till = '(' .. format('%.0f', LEASES + clock.time + 1)
  for _, member in ipairs(redis.call('ZRANGEBYSCORE', due, LEASES, till, 'LIMIT', 0, most)) do
    local lease = sub(member, 8)
    local found = redis.call('ZRANGEBYLEX', entries, '[\0' .. lease .. '\0', '(\0' .. lease .. '\2', 'LIMIT', 0, most)
    for _, entry in ipairs(found) do
      local holder = sub(entry, #lease + 3)
      local key = match(redis.call('HGET', records, '\0holder:' .. holder) or '', '^%d+ %S+ %d+ %S+ ([^\n]+)\n')
      -- A call for a foreign one would be refused, with all others of its batch.
      local known = key and find(holder, '^%w+%.%d+$')
      if known then add('D', key, holder) else redis.call('ZREM', entries, entry) end
    end
    if #found == 0 then redis.call('ZREM', due, member) end
    if #calls >= 2 + 3 * most then return end
  end
end

-- Returns the time at which to look at the lease clock next: often enough that it keeps time with the server's. A lease
-- that is over only keeps the map due: who was told of it may not be allowed to call, and must not ask again at once.
local function next_look()
  local any = redis.call('ZRANGEBYSCORE', due, LEASES, '(+inf', 'WITHSCORES', 'LIMIT', 0, 1)[2]
  local from = clock.time < clock.untl and LEASES or '(' .. format('%.0f', LEASES + clock.time)
  local alive = redis.call('ZRANGEBYSCORE', due, from, '(+inf', 'WITHSCORES', 'LIMIT', 0, 1)[2]
  local ends = alive and math.max(alive - LEASES, clock.untl)
  calls[1] = ends and math.ceil(math.min(ends - clock.time, clock.grace / 2)) or 0
  return any and now.ms + (any == alive and calls[1] or 0)
end

-- Returns the time at which this map has to be swept next; nil if nothing in it becomes due.
local function next_sweep()
  local at = redis.call('ZRANGEBYSCORE', due, '-inf', '(+inf', 'WITHSCORES', 'LIMIT', 0, 1)[2]
  local ends = redis.call('ZRANGEBYSCORE', due, LATER, '(' .. format('%.0f', LEASES), 'WITHSCORES', 'LIMIT', 0, 1)[2]
  -- A call ends what is over. Until then, the map stays due: the node that was told may not be allowed to call, or may
  -- have ended.
  local times = {at and at + 0 < LATER and at + 0, ends and math.max(ends - LATER, now.ms), clock and next_look()}
  local next
  for i = 1, 3 do
    if times[i] then next = math.min(next or times[i], times[i]) end
  end
  return next
end

find_events()
if clock and clock.time >= clock.untl then find_holders() end
local at = next_sweep()
if at then
  redis.call('ZADD', idle, format('%.0f', at), ARGV[1])
  return calls
end
redis.call('ZREM', idle, ARGV[1])
local before, after = match(redis.call('HGET', records, HEAD) or '', '^([12] %d+ %d+) %S+( .*)$')
if redis.call('HLEN', records) > (before and 1 or 0) + (clock and 1 or 0) then
  if before then redis.call('HSET', records, HEAD, before .. ' -' .. after) end
else
  -- Written anew, so that Redis stores it in its smallest encoding.
  redis.call('DEL', records, log, due, entries)
  -- A map without a clock is a new one, whose locks are granted at once: no failover could have lost an earlier grant.
  if clock then redis.call('HSET', records, CLOCK, encode(clock)) end
  if before then redis.call('HSET', records, HEAD, before .. ' -' .. after) end
end
return calls
