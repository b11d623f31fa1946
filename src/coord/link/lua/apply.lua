--[[
Applies the calls of one node to one map, as one step.

KEYS  1 records (hash)   2 head (string)   3 log (stream)   4 due (sorted set)   5 call (string)
ARGV  1 number of this batch           2 server process that the caller believes to talk to
      3 name of the node               4 doorbell channel (a key's channel is this, a colon, and the key)
      5 lines of history to keep       6 retention of pending keys' records, milliseconds
      7 life of the call number, ms    8 newest generation that the caller has seen
      9 length from which the history leaves a value out
      then, for each call: operation (F fire, X fail, P pulse, R reset), key, data
      (JSON; for a reset the "GENERATION NUMBER" that must stand, or nothing)

Reply "GENERATION NUMBER TIME\n": NUMBER is the one before the first change, TIME in microseconds.
Then, for each call, one of
      +            applied, under the next number
      *LEN:RECORD  applied, under the next number, and RECORD says what was made of it (reset)
      =LEN:RECORD  nothing changed: RECORD stands
      -            nothing changed: nothing stands
      !LEN:ERROR   not applied
with a ~ before it where a number was spent on a change that had to be undone.

A number answered before is answered as before; a lower one is refused with an error that begins with STALE.
]]

local number = tonumber(ARGV[1])
local last = redis.call('GET', KEYS[5])
if last then
  local done, reply = string.match(last, '^(%d+)\n(.*)$')
  done = tonumber(done)
  if done == number then return reply end
  if done and done > number then
    return redis.error_reply('STALE call ' .. ARGV[1] .. ', a later one was applied')
  end
end

local function whole(n) return string.format('%.0f', n) end

local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])

-- The head. A new generation begins where the data came under another process, or had gone: what is written from
-- here on can never be taken for what another process wrote, or for what was lost.
local generation, count, process, follows = 0, 0, '', '0 0'
local head = redis.call('GET', KEYS[2])
if head then
  local g, n, p, f = string.match(head, '^(%d+) (%d+) (%S+) (%d+ %d+)$')
  if not g then return redis.error_reply('CORRUPT ' .. KEYS[2] .. ' is not a head') end
  generation, count, process, follows = tonumber(g), tonumber(n), p, f
end
local begins = false
if process ~= ARGV[2] then
  local actual = string.match(redis.call('INFO', 'server'), 'run_id:(%x+)')
  if process ~= actual then
    follows = whole(generation) .. ' ' .. whole(count)
    local newest = redis.pcall('XREVRANGE', KEYS[3], '+', '-', 'COUNT', 1)[1]
    local logged = newest and tonumber(string.match(newest[1], '^%d+')) or 0
    -- Not only the clock: it may have been set back, and may differ from the last server's.
    generation = math.max(now, generation + 1, tonumber(ARGV[8]) + 1, logged + 1)
    count, process, begins = 0, actual, true
  end
end
local prefix = whole(generation) .. ' '
local first = count
local function write_head()
  return redis.call('SET', KEYS[2], prefix .. whole(count) .. ' ' .. process .. ' ' .. follows)
end

-- These come before any change, so that what forbids them (permissions, memory, a read-only server) is met while
-- there is nothing to undo. The doorbell's listeners cannot look before this script has ended.
if head then redis.call('SET', KEYS[2], head) else write_head() end
redis.call('SET', KEYS[5], whole(number - 1) .. '\n', 'PX', ARGV[7])
redis.call('PUBLISH', ARGV[4], 'x')

local records, log, due = KEYS[1], KEYS[3], KEYS[4]
local lines, retention, large = ARGV[5], tonumber(ARGV[6]), tonumber(ARGV[9])
local from = ' ' .. whole(now) .. ' ' .. ARGV[3]
local channel = ARGV[4] .. ':'
-- The revision that the next line of the history has to name, where it is not simply the one before.
local gap = begins and follows or nil
local replies = {}

local function undo(key, old)
  if old then redis.pcall('HSET', records, key, old) else redis.pcall('HDEL', records, key) end
end

-- Writes a record, its line and its message; or none of them.
local function change(key, old, header, data, pending)
  count = count + 1
  local record = header .. '\n' .. data
  local set = redis.pcall('HSET', records, key, record)
  if type(set) == 'table' and set.err then
    count = count - 1
    return set.err
  end
  local id = whole(generation) .. '-' .. whole(count)
  local line = {'XADD', log, 'MAXLEN', '~', lines, id, 'key', key, 'record', record}
  if #data > large then
    line[10] = header .. '\n'
    line[11], line[12] = 'omitted', '1'
  end
  if gap then
    line[#line + 1] = 'after'
    line[#line + 1] = gap
  end
  local added = redis.pcall(unpack(line))
  if type(added) == 'table' and added.err then
    count = count - 1
    undo(key, old)
    return added.err
  end
  local failed
  if pending then
    local put = redis.pcall('ZADD', due, whole(math.floor(now / 1000) + retention), key)
    failed = type(put) == 'table' and put.err
  end
  if not failed then
    local sent = redis.pcall('PUBLISH', channel .. key, record)
    failed = type(sent) == 'table' and sent.err
  end
  if failed then
    undo(key, old)
    redis.pcall('XDEL', log, id)
    gap = gap or (prefix .. whole(count - 1))
    replies[#replies + 1] = '~'
    return failed
  end
  gap = nil
  return nil, record
end

local function told(mark, text)
  replies[#replies + 1] = mark .. #text .. ':' .. text
end

local function call(operation, key, data)
  local old = redis.pcall('HGET', records, key)
  if type(old) == 'table' and old.err then return told('!', old.err) end
  local kind, revision, rest, at
  if old then
    kind, revision, rest, at = string.match(old, '^([FXPR]) (%d+ %d+) %d+ [%w._-]+([^\n]*)\n()')
    if not kind and (operation ~= 'R' or data ~= '') then
      return told('!', 'CORRUPT the record that stands is not one of coord\'s')
    end
  end
  local latched = kind == 'F' or kind == 'X'
  local err, record
  if operation == 'R' then
    if kind and not latched or old and data ~= '' and data ~= revision then return told('=', old) end
    if not old then
      replies[#replies + 1] = '-'
      return
    end
    -- The last wake is kept: a waiter that was away when the key was fired still gets it.
    local wake = kind and (kind .. ' ' .. revision) or '- 0 0'
    local value = kind and string.sub(old, at) or ''
    err, record = change(key, old, 'R ' .. prefix .. whole(count + 1) .. from .. ' ' .. wake, value, true)
    if not err then return told('*', record) end
  else
    if latched and operation ~= 'P' then return told('=', old) end
    err = change(key, old, operation .. ' ' .. prefix .. whole(count + 1) .. from, data, operation == 'P')
    if not err then
      replies[#replies + 1] = '+'
      return
    end
  end
  told('!', err)
end

for i = 10, #ARGV, 3 do call(ARGV[i], ARGV[i + 1], ARGV[i + 2]) end

-- Forget a few records of keys that have been pending for longer than the retention. One that was latched since, or
-- became pending again later, is not meant. Junk in the set's place must not cost the calls their outcome.
pcall(function()
  for _, key in ipairs(redis.call('ZRANGEBYSCORE', due, '-inf', whole(math.floor(now / 1000)), 'LIMIT', 0, 4)) do
    local old = redis.call('HGET', records, key)
    if old and string.match(old, '^[PR] ') then redis.call('HDEL', records, key) end
    redis.call('ZREM', due, key)
  end
end)

local reply = prefix .. whole(first) .. ' ' .. whole(now) .. '\n' .. table.concat(replies)
if count ~= first then
  write_head()
elseif not head then
  redis.call('DEL', KEYS[2])
end
redis.call('SET', KEYS[5], whole(number) .. '\n' .. reply, 'PX', ARGV[7])
return reply
