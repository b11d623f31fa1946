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

-- What stands. MGET takes what is no string for nothing; GET tells.
local number = tonumber(ARGV[1])
local told = try('MGET', KEYS[5], KEYS[2])
local err = failure(told, KEYS[5])
if not err and not told[1] then err = failure(try('GET', KEYS[5]), KEYS[5]) end
if not err and not told[2] then err = failure(try('GET', KEYS[2]), KEYS[2]) end
if err then return redis.error_reply(err) end
local last, head = told[1], told[2]

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

local records, log, due = KEYS[1], KEYS[3], KEYS[4]
local calls, keys = (#ARGV - 9) / 3, {}
for i = 1, calls do keys[i] = ARGV[3 * i + 8] end
local found = calls > 0 and try('HMGET', records, unpack(keys)) or {}
if failure(found, records) then return redis.error_reply(failure(found, records)) end

local time = ask('TIME')
local now = time[1] .. format('%06d', time[2])

-- The head. A new generation begins where the data came under another process, or had gone: what is written from
-- here on can never be taken for what another process wrote, or for what was lost.
local generation, newest, process, follows, spent = '0', 0, '', '0 0', nil
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
    local logged, stream = 0, try('XINFO', 'STREAM', log)
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

-- First all is decided, then all is written: one command for the records of all calls, and the head and the outcome
-- as they will be if nothing is refused.
local prefix, from = generation .. ' ', ' ' .. now .. ' ' .. ARGV[3]
local milliseconds = string.sub(now, 1, -4)
local kept_until = whole(tonumber(milliseconds) + tonumber(ARGV[6]))
local standing, made, outcomes, written, pending = {}, {}, {}, {}, {}
for i = 1, calls do standing[keys[i]] = found[i] end

local was_newest, was_spent = newest, count
for i = 1, calls do
  local operation, key, data, wake = ARGV[3 * i + 7], keys[i], ARGV[3 * i + 9], ''
  local old, outcome = standing[key], nil
  if old then
    local kind, revision, at = match(old, '^([FXPR]) (%d+ %d+) %d+ [%w._-]+[^\n]*\n()')
    local latched = kind == 'F' or kind == 'X'
    if not kind and (operation ~= 'R' or data ~= '') then
      outcome = '!52:CORRUPT the record that stands is not one of coord\'s'
    elseif operation ~= 'R' then
      if latched and operation ~= 'P' then outcome = '=' .. #old .. ':' .. old end
    elseif kind and not latched or data ~= '' and data ~= revision then
      outcome = '=' .. #old .. ':' .. old
    else
      -- The last wake is kept: a waiter that was away when the key was fired still gets it.
      wake = ' ' .. (kind and (kind .. ' ' .. revision) or '- 0 0')
      data = kind and string.sub(old, at) or ''
    end
  elseif operation == 'R' then
    outcome = '-'
  end
  if not outcome then
    count = count + 1
    local record = operation .. ' ' .. prefix .. whole(count) .. from .. wake .. '\n' .. data
    made[i], standing[key] = record, record
    written[#written + 1] = key
    written[#written + 1] = record
    if operation == 'P' or operation == 'R' then
      pending[#pending + 1] = kept_until
      pending[#pending + 1] = key
    end
    outcome = operation == 'R' and '*' .. #record .. ':' .. record or '+'
  end
  outcomes[i] = outcome
end

-- What forbids one of these (permissions, memory, a read-only server, a wrong type) refuses the call as a whole.
-- The doorbell's listeners cannot look before this script has ended.
local head_tail = ' ' .. process .. ' ' .. follows
local reply_head = prefix .. whole(was_spent) .. ' ' .. now .. '\n'
local reply = reply_head .. table.concat(outcomes)
err = failure(try('PUBLISH', ARGV[4], 'x'), ARGV[4])
  or failure(try('SET', KEYS[5], ARGV[1] .. '\n' .. reply, 'PX', ARGV[7]), KEYS[5])
if not err and count > was_spent then
  err = failure(try('SET', KEYS[2], prefix .. whole(count) .. head_tail), KEYS[2])
    or #pending > 0 and failure(try('ZADD', due, unpack(pending)), due)
    or failure(try('HSET', records, unpack(written)), records)
  if err then
    if head then try('SET', KEYS[2], head) else try('DEL', KEYS[2]) end
  end
end
if err then
  try('SET', KEYS[5], last or '0\n', 'PX', ARGV[7])
  return redis.error_reply(err)
end

-- Then, for each change, its line and its message. Where one is refused, the key is as it was before that, and the
-- later calls of this batch on it have the same error.
local lines, large, channel = ARGV[5], tonumber(ARGV[9]), ARGV[4] .. ':'
local id_prefix = generation .. '-'
-- The revision that the next line of the history has to name, where it is not the number before its own.
local after = begins and follows or was_spent > was_newest and prefix .. whole(was_newest) or nil
local refused

count = was_spent
for i = 1, calls do
  local record, key = made[i], keys[i]
  local because = refused and refused[key]
  if record then count = count + 1 end
  if record and not because then
    local id, where, added = id_prefix .. whole(count), channel .. key, nil
    if after or #record > large then
      local line, start = {'XADD', log, 'MAXLEN', '~', lines, id, 'key', key, 'record', record}, find(record, '\n', 1, true)
      if #record - start > large then
        line[10] = string.sub(record, 1, start)
        line[11], line[12] = 'omitted', '1'
      end
      if after then
        line[#line + 1] = 'after'
        line[#line + 1] = after
      end
      added = try(unpack(line))
    else
      added = try('XADD', log, 'MAXLEN', '~', lines, id, 'key', key, 'record', record)
    end
    because = failure(added, log)
    if not because then
      because = failure(try('PUBLISH', where, record), where)
      if because then try('XDEL', log, id) end
    end
    if because then
      local old = found[i]
      for j = 1, i - 1 do
        if keys[j] == key and made[j] then old = made[j] end
      end
      if old then try('HSET', records, key, old) else try('HDEL', records, key) end
      if not old or not find(old, '^[PR] ') then try('ZREM', due, key) end
      refused = refused or {}
      refused[key] = because
    end
  end
  if because then
    outcomes[i] = (record and '~!' or '!') .. #because .. ':' .. because
    if record then after = after or prefix .. whole(newest) end
  elseif record then
    newest, after = count, nil
  end
end

-- What was written as if nothing would be refused.
if refused then
  -- No generation begins without a line: its first one says what it follows.
  if newest > was_newest or not begins then
    local beyond = count > newest and ' ' .. whole(count) or ''
    try('SET', KEYS[2], prefix .. whole(newest) .. head_tail .. beyond)
  elseif head then
    try('SET', KEYS[2], head)
  else
    try('DEL', KEYS[2])
  end
  reply = reply_head .. table.concat(outcomes)
  try('SET', KEYS[5], ARGV[1] .. '\n' .. reply, 'PX', ARGV[7])
end

-- Forget records of keys that have been pending for longer than the retention; always more than were added, so that
-- a backlog shrinks. One that was latched since is not meant. Junk in the set's place must not cost the calls
-- their outcome.
local expired = try('ZRANGEBYSCORE', due, '-inf', milliseconds, 'LIMIT', 0, calls + 3)
if #expired > 0 then
  local old = try('HMGET', records, unpack(expired))
  for i, key in ipairs(expired) do
    if old[i] and match(old[i], '^[PR] ') then try('HDEL', records, key) end
  end
  try('ZREM', due, unpack(expired))
end
return reply
