--[[
Applies the calls of one node to one map, as one step.

KEYS  1 records (hash)   2 head (string)   3 log (stream)   4 due (sorted set)   5 call (string)
ARGV  1 number of this batch           2 server process that the caller believes to talk to
      3 name of the node               4 doorbell channel (a key's channel is this, a colon, and the key)
      5 lines of history to keep       6 retention of pending keys' records, milliseconds
      7 life of the call number, ms    8 newest generation that the caller has seen
      9 length from which the history leaves a value out
      then, for each call (2,000 at most): operation (F fire, X fail, P pulse, R reset), key, data
      (JSON; for a reset the "GENERATION NUMBER" that must stand, or nothing)

Reply "GENERATION NUMBER TIME\n": NUMBER is the last one spent before the first change, TIME in microseconds.
Then, for each call, one of
      +            applied, under the next number
      *LEN:RECORD  applied, under the next number, and RECORD says what was made of it (reset)
      =LEN:RECORD  nothing changed: RECORD stands
      -            nothing changed: nothing stands
      !LEN:ERROR   not applied
with a ~ before it where a number was spent on a change that had to be undone.

A number answered before is answered as before; a lower one is refused with an error that begins with STALE.
An error in place of the reply means that nothing was applied.

The head is "GENERATION NUMBER PROCESS GENERATION NUMBER": the revision of the newest line, the server process that
it was written under, and the revision that its generation follows; then the last number spent, where that is higher.
]]

local ask, try = redis.call, redis.pcall
local find, format, match = string.find, string.format, string.match

-- '%d' is several times as fast as '%.0f', and does not reach further than this where a C long has 32 bits.
local function whole(n) return format(n < 2147483648 and '%d' or '%.0f', n) end

-- The error that a reply is, with the name that it is about; or nothing.
local function failure(reply, name)
  if type(reply) ~= 'table' or not reply.err then return end
  local text = reply.err .. ' (' .. name .. ')'
  -- Outside of scripts a missing permission has a code of its own; in them, each version has other words for it.
  if find(text, 'user executing the script', 1, true) or find(text, 'ACL failure in script', 1, true) then
    return 'NOPERM ' .. string.gsub(text, '^ERR ', '')
  end
  return text
end

-- What makes no sense is refused before anything is written: an error half-way would leave a half.
local FORM = '^%d+ %w+ [%w._-]+ %S+ [1-9]%d* %d+ [1-9]%d* %d+ %d+$'
local KNOWN = {F = true, X = true, P = true, R = true}
local sane = #ARGV % 3 == 0 and #ARGV >= 9 and #ARGV <= 9 + 3 * 2000 and #ARGV[1] <= 16
  and find(table.concat(ARGV, ' ', 1, 9), FORM)
for i = 5, 9 do sane = sane and #ARGV[i] <= 16 end
if not sane then return redis.error_reply('ERR the settings given to apply.lua are not what they should be') end
for i = 10, #ARGV, 3 do
  local operation, data = ARGV[i], ARGV[i + 2]
  if not KNOWN[operation] or ARGV[i + 1] == ''
    or operation == 'R' and data ~= '' and not find(data, '^%d+ %d+$') or operation ~= 'R' and data == '' then
    return redis.error_reply('ERR the calls given to apply.lua are not what they should be')
  end
end

local number = tonumber(ARGV[1])
local last = try('GET', KEYS[5])
if failure(last, KEYS[5]) then return redis.error_reply(failure(last, KEYS[5])) end
if last then
  local done, at = match(last, '^(%d+)\n()')
  done = tonumber(done)
  if done == number then
    -- A write, so that a WAIT after the repetition waits for something.
    try('PEXPIRE', KEYS[5], ARGV[7])
    return string.sub(last, at)
  end
  if done and done > number then
    return redis.error_reply('STALE call ' .. ARGV[1] .. ', a later one was applied')
  end
end

local time = ask('TIME')
local now = time[1] .. format('%06d', time[2])

-- The head. A new generation begins where the data came under another process, or had gone: what is written from
-- here on can never be taken for what another process wrote, or for what was lost.
local generation, newest, process, follows, spent = '0', 0, '', '0 0', nil
local head = try('GET', KEYS[2])
if failure(head, KEYS[2]) then return redis.error_reply(failure(head, KEYS[2])) end
if head then
  local g, n, p, f, tail = match(head, '^(%d+) (%d+) (%w+) (%d+ %d+)(.*)$')
  spent = tail and match(tail, '^ (%d+)$')
  if not g or tail ~= '' and not spent then
    return redis.error_reply('CORRUPT ' .. KEYS[2] .. ' is not a head')
  end
  generation, newest, process, follows = g, tonumber(n), p, f
end
-- A change that was undone has spent its number: the stream does not take one twice.
local count, begins = spent and tonumber(spent) or newest, false
if process ~= ARGV[2] then
  local info = try('INFO', 'server')
  if failure(info, 'INFO') then return redis.error_reply(failure(info, 'INFO')) end
  local actual = match(info, 'run_id:(%x+)')
  if process ~= actual then
    follows = generation .. ' ' .. whole(newest)
    local logged, stream = 0, try('XINFO', 'STREAM', KEYS[3])
    for i = 1, #stream, 2 do
      if stream[i] == 'last-generated-id' then logged = tonumber(match(stream[i + 1], '^%d+')) end
    end
    -- Not only the clock: it may have been set back, and may differ from the last server's. The microseconds are for
    -- two processes that begin one after the same generation, where what the first of them wrote was lost.
    local highest = math.max(tonumber(generation), tonumber(ARGV[8]), logged)
    generation = whole(tonumber(now) > highest and tonumber(now) or highest + 1 + tonumber(time[2]))
    newest, count, process, begins = 0, 0, actual, true
  end
end
local was_newest, was_spent = newest, count

-- These come before any change, so that what forbids them (permissions, memory, a read-only server) is met while
-- there is nothing to undo. The doorbell's listeners cannot look before this script has ended. The head comes last,
-- so that none is left behind where there was none.
local forbidden = failure(try('PUBLISH', ARGV[4], 'x'), ARGV[4])
  or failure(try('SET', KEYS[5], last or '0\n', 'PX', ARGV[7]), KEYS[5])
  or failure(try('SET', KEYS[2], head or '0 0 0 0 0'), KEYS[2])
if forbidden then return redis.error_reply(forbidden) end

local records, log, due = KEYS[1], KEYS[3], KEYS[4]
local lines, large = ARGV[5], tonumber(ARGV[9])
local milliseconds = string.sub(now, 1, -4)
local prefix, id_prefix = generation .. ' ', generation .. '-'
local from = ' ' .. now .. ' ' .. ARGV[3]
local channel = ARGV[4] .. ':'
-- The revision that the next line of the history has to name, where it is not the number before its own.
local after = begins and follows or count > newest and prefix .. whole(newest) or nil
local replies, kept_for = {}, nil

local function undo(key, old)
  if old then try('HSET', records, key, old) else try('HDEL', records, key) end
end

-- Writes a record, its line and its message, and returns the record; or none of them, and returns nil and the error.
local function change(key, old, operation, wake, data)
  local next_number, where = whole(count + 1), channel .. key
  local header = operation .. ' ' .. prefix .. next_number .. from .. wake .. '\n'
  local record = header .. data
  local err = failure(try('HSET', records, key, record), records)
  if err then return nil, err end
  local id = id_prefix .. next_number
  if after or #data > large then
    local line = {'XADD', log, 'MAXLEN', '~', lines, id, 'key', key, 'record', record}
    if #data > large then
      line[10] = header
      line[11], line[12] = 'omitted', '1'
    end
    if after then
      line[#line + 1] = 'after'
      line[#line + 1] = after
    end
    err = failure(try(unpack(line)), log)
  else
    err = failure(try('XADD', log, 'MAXLEN', '~', lines, id, 'key', key, 'record', record), log)
  end
  if err then
    undo(key, old)
    return nil, err
  end
  count = count + 1
  if operation == 'P' or operation == 'R' then
    kept_for = kept_for or whole(tonumber(milliseconds) + tonumber(ARGV[6]))
    err = failure(try('ZADD', due, kept_for, key), due)
  end
  err = err or failure(try('PUBLISH', where, record), where)
  if err then
    undo(key, old)
    try('XDEL', log, id)
    after = after or prefix .. whole(newest)
    replies[#replies + 1] = '~'
    return nil, err
  end
  newest, after = count, nil
  return record
end

local function told(mark, text)
  replies[#replies + 1] = mark .. #text .. ':' .. text
end

local function apply(operation, key, data)
  local old = try('HGET', records, key)
  local record, err
  err = failure(old, records)
  if err then return told('!', err) end
  local kind, revision, at
  if old then
    kind, revision, at = match(old, '^([FXPR]) (%d+ %d+) %d+ [%w._-]+[^\n]*\n()')
    if not kind and (operation ~= 'R' or data ~= '') then
      return told('!', 'CORRUPT the record that stands is not one of coord\'s')
    end
  end
  local latched = kind == 'F' or kind == 'X'
  if operation == 'R' then
    if not old then
      replies[#replies + 1] = '-'
      return
    end
    if kind and not latched or data ~= '' and data ~= revision then return told('=', old) end
    -- The last wake is kept: a waiter that was away when the key was fired still gets it.
    local wake = kind and (kind .. ' ' .. revision) or '- 0 0'
    record, err = change(key, old, 'R', ' ' .. wake, kind and string.sub(old, at) or '')
    if record then return told('*', record) end
  else
    if latched and operation ~= 'P' then return told('=', old) end
    record, err = change(key, old, operation, '', data)
    if record then
      replies[#replies + 1] = '+'
      return
    end
  end
  told('!', err)
end

for i = 10, #ARGV, 3 do apply(ARGV[i], ARGV[i + 1], ARGV[i + 2]) end

-- Forget records of keys that have been pending for longer than the retention; always more than were added, so that
-- a backlog shrinks. One that was latched since is not meant. Junk in the set's place must not cost the calls
-- their outcome.
local expired = try('ZRANGEBYSCORE', due, '-inf', milliseconds, 'LIMIT', 0, (#ARGV - 9) / 3 + 3)
if #expired > 0 then
  local standing = try('HMGET', records, unpack(expired))
  for i, key in ipairs(expired) do
    if standing[i] and match(standing[i], '^[PR] ') then try('HDEL', records, key) end
  end
  try('ZREM', due, unpack(expired))
end

-- No generation begins without a line: its first one says what it follows.
if newest > was_newest or count > was_spent and not begins then
  local beyond = count > newest and ' ' .. whole(count) or ''
  ask('SET', KEYS[2], prefix .. whole(newest) .. ' ' .. process .. ' ' .. follows .. beyond)
elseif not head then
  ask('DEL', KEYS[2])
end
local reply = prefix .. whole(was_spent) .. ' ' .. now .. '\n' .. table.concat(replies)
-- Its life was set above; to set it once more would take longer.
ask('SET', KEYS[5], ARGV[1] .. '\n' .. reply, 'KEEPTTL')
return reply
