--[[
Applies the calls of one node to one map, as one step.

KEYS  1 records (hash)   2 log (stream)   3 due (sorted set)
ARGV  1 incarnation of the node              2 number of this batch
      3 server process that the caller believes to talk to
      4 name of the node
      5 doorbell channel (a key's channel is this, a colon, and the key)
      6 lines of history to keep             7 retention of pending keys' records, milliseconds
      8 life of the outcome, milliseconds    9 newest generation that the caller has seen
      10 length from which the history leaves a value out
      then, for each call (2,000 at most): operation (fired, failed, pulsed, reset), key, data
      (JSON; for a reset the "GENERATION,NUMBER" that must stand, or nothing)

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

Two kinds of fields of the hash are no records; no key begins as they do:
      \0head              "GENERATION NUMBER PROCESS GENERATION NUMBER": the revision of the newest line, the server
                          process that it was written under, and the revision that its generation follows; then the
                          last number spent, where that is higher
      \0call:INCARNATION  "NUMBER\nREPLY": the node's last call and its outcome

The lines of one call are one entry of the stream, under the number of the last: key and record in turn. Before them
comes an empty key with the "GENERATION NUMBER" that the first follows, where that is not the number before its own.
]]

local ask, try = redis.call, redis.pcall
local find, format, match, sub = string.find, string.format, string.match, string.sub

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
local FORM = '^%w+ %d+ %w+ [%w._-]+ %S+ [1-9]%d* %d+ [1-9]%d* %d+ %d+$'
local KNOWN = {fired = true, failed = true, pulsed = true, reset = true}
local sane = #ARGV % 3 == 1 and #ARGV >= 10 and #ARGV <= 10 + 3 * 2000 and #ARGV[2] <= 16
  and find(table.concat(ARGV, ' ', 1, 10), FORM)
for i = 6, 10 do sane = sane and #ARGV[i] <= 16 end
if not sane then return redis.error_reply('ERR the settings given to apply.lua are not what they should be') end
for i = 11, #ARGV, 3 do
  local operation, key, data = ARGV[i], ARGV[i + 1], ARGV[i + 2]
  if not KNOWN[operation] or key == '' or find(key, '^%z')
    or operation == 'reset' and data ~= '' and not find(data, '^%d+,%d+$') or operation ~= 'reset' and data == '' then
    return redis.error_reply('ERR the calls given to apply.lua are not what they should be')
  end
end

-- What stands.
local records, log, due = KEYS[1], KEYS[2], KEYS[3]
local HEAD, CALL, NOTHING = '\0head', '\0call:' .. ARGV[1], '0\n'
local calls, fields = (#ARGV - 10) / 3, {HEAD, CALL}
for i = 1, calls do fields[i + 2] = ARGV[3 * i + 9] end
local found = try('HMGET', records, unpack(fields))
if failure(found, records) then return redis.error_reply(failure(found, records)) end
local head, last = found[1], found[2]

local number = tonumber(ARGV[2])
local done, at = match(last or '', '^(%d+)\n()')
done = tonumber(done)
if done == number then
  -- A write, so that a WAIT after the repetition waits for something.
  try('HSET', records, CALL, last)
  return sub(last, at)
end
if done and done > number then
  return redis.error_reply('STALE call ' .. ARGV[2] .. ', a later one was applied')
end

local time = ask('TIME')
local now = time[1] .. format('%06d', time[2])
local milliseconds = sub(now, 1, -4)

-- The head. A new generation begins where the data came under another process, or had gone: what is written from
-- here on can never be taken for what another process wrote, or for what was lost.
local generation, newest, process, follows, spent = '0', 0, '', '0 0', nil
if head then
  local g, n, p, f, tail = match(head, '^(%d+) (%d+) (%w+) (%d+ %d+)(.*)$')
  spent = tail and match(tail, '^ (%d+)$')
  if not g or tail ~= '' and not spent then
    return redis.error_reply('CORRUPT the head of ' .. records .. ' is not one of coord\'s')
  end
  generation, newest, process, follows = g, tonumber(n), p, f
end
-- A change that was undone has spent its number: the stream does not take one twice.
local count = spent and tonumber(spent) or newest
-- What the next line of the history follows, where that is not the number before its own.
local after = count > newest and generation .. ' ' .. whole(newest) or nil
local begins = false
if process ~= ARGV[3] then
  local info = try('INFO', 'server')
  if failure(info, 'INFO') then return redis.error_reply(failure(info, 'INFO')) end
  local actual = match(info, 'run_id:(%x+)')
  if process ~= actual then
    local logged, stream = 0, try('XINFO', 'STREAM', log)
    for i = 1, #stream, 2 do
      if stream[i] == 'last-generated-id' then logged = tonumber(match(stream[i + 1], '^%d+')) end
    end
    -- Not only the clock: it may have been set back, and may differ from the last server's. The microseconds are for
    -- two processes that begin one after the same generation, where what the first of them wrote was lost.
    local highest = math.max(tonumber(generation), tonumber(ARGV[9]), logged)
    follows = generation .. ' ' .. whole(newest)
    generation = whole(tonumber(now) > highest and tonumber(now) or highest + 1 + tonumber(time[2]))
    process, after, begins = actual, follows, true
  end
end

-- First all is decided, then all is written: one command for the records of all calls, with the head and the outcome
-- as they will be if nothing is refused.
local opening, closing = '",[' .. generation .. ',', '],' .. now .. ',"' .. ARGV[4] .. '"'
local kept_until = whole(tonumber(milliseconds) + tonumber(ARGV[7]))
local large, was_spent = tonumber(ARGV[10]), count
local standing, made, outcomes, written, pending = {}, {}, {}, {CALL, '', HEAD, ''}, {}
local entry = after and {'', after} or {}
for i = 1, calls do standing[fields[i + 2]] = found[i + 2] end

for i = 1, calls do
  local operation, key, data, wake = ARGV[3 * i + 8], fields[i + 2], ARGV[3 * i + 10], ''
  local old, outcome = standing[key], nil
  if old then
    local kind, revision, from = match(old, '^%["(%l+)",%[(%d+,%d+)%],%d+,"[%w._-]+"[^\n]*%]\n()')
    kind = KNOWN[kind] and kind
    local latched = kind == 'fired' or kind == 'failed'
    if not kind and (operation ~= 'reset' or data ~= '') then
      outcome = '!52:CORRUPT the record that stands is not one of coord\'s'
    elseif operation ~= 'reset' then
      if latched and operation ~= 'pulsed' then outcome = '=' .. #old .. ':' .. old end
    elseif kind and not latched or data ~= '' and data ~= revision then
      outcome = '=' .. #old .. ':' .. old
    else
      -- The last wake is kept: a waiter that was away when the key was fired still gets it.
      wake = kind and ',"' .. kind .. '",[' .. revision .. ']' or ''
      data = kind and sub(old, from) or ''
    end
  elseif operation == 'reset' then
    outcome = '-'
  end
  if not outcome then
    count = count + 1
    local header = '["' .. operation .. opening .. whole(count) .. closing .. wake .. ']'
    local record = header .. '\n' .. data
    made[i], standing[key] = record, record
    written[#written + 1] = key
    written[#written + 1] = record
    entry[#entry + 1] = key
    entry[#entry + 1] = #data > large and header or record
    if operation == 'pulsed' or operation == 'reset' then
      pending[#pending + 1] = kept_until
      pending[#pending + 1] = key
    end
    outcome = operation == 'reset' and '*' .. #record .. ':' .. record or '+'
  end
  outcomes[i] = outcome
end

local function reply() return generation .. ' ' .. whole(was_spent) .. ' ' .. now .. '\n' .. table.concat(outcomes) end

local function head_at(newest)
  local beyond = count > newest and ' ' .. whole(count) or ''
  return generation .. ' ' .. whole(newest) .. ' ' .. process .. ' ' .. follows .. beyond
end

-- Puts back what stood in a field.
local function restore(field, old)
  if old then try('HSET', records, field, old) else try('HDEL', records, field) end
  if not old or not find(old, '^%["[pr]') then try('ZREM', due, field) end
end

-- What forbids one of these (permissions, memory, a read-only server, a wrong type) refuses the call as a whole.
-- The doorbell's listeners cannot look before this script has ended.
if not last or last == NOTHING then
  pending[#pending + 1] = whole(tonumber(milliseconds) + tonumber(ARGV[8]))
  pending[#pending + 1] = CALL
end
written[2] = ARGV[2] .. '\n' .. reply()
if count > was_spent then written[4] = head_at(count) else written = {CALL, written[2]} end
local id = generation .. '-' .. whole(count)
local err = failure(try('PUBLISH', ARGV[5], 'x'), ARGV[5]) or failure(try('HSET', records, unpack(written)), records)
if not err then
  err = #pending > 0 and failure(try('ZADD', due, unpack(pending)), due)
    or count > was_spent and failure(try('XADD', log, id, unpack(entry)), log)
  if err then
    -- The numbers are spent: where somebody else has written ahead of us in the stream, we get past that.
    if begins then restore(HEAD, head) else try('HSET', records, HEAD, head_at(newest)) end
    try('HSET', records, CALL, last or NOTHING)
    for i = 1, calls do restore(fields[i + 2], found[i + 2]) end
  end
end
if err then return redis.error_reply(err) end

-- The messages. A key whose channel is forbidden has the error, and is as it was before.
local channel, refused = ARGV[5] .. ':', nil
for i = 1, calls do
  local record, key = made[i], fields[i + 2]
  local because = refused and refused[key]
  if record and not because then
    because = failure(try('PUBLISH', channel .. key, record), channel .. key)
    if because then
      restore(key, found[i + 2])
      refused = refused or {}
      refused[key] = because
    end
  end
  if because then outcomes[i] = (record and '~!' or '!') .. #because .. ':' .. because end
end

-- The entry again, without what was refused, and under a number of its own: the stream takes none twice.
if refused then
  local kept, good, number, at = {}, nil, was_spent, after and 2 or 0
  for i = 1, at do kept[i] = entry[i] end
  for i = 1, calls do
    if made[i] then
      number, at = number + 1, at + 2
      if not refused[entry[at - 1]] then
        kept[#kept + 1], kept[#kept + 2], good = entry[at - 1], entry[at], number
      end
    end
  end
  if not failure(try('XDEL', log, id), log) and good then
    count = count + 1
    try('XADD', log, generation .. '-' .. whole(count), unpack(kept))
  end
  -- No generation begins without a line: its first one says what it follows.
  if good or not begins then try('HSET', records, HEAD, head_at(good or newest)) else restore(HEAD, head) end
  try('HSET', records, CALL, ARGV[2] .. '\n' .. reply())
end

-- Cut the history, in steps. Numbers go on through the generations, so the oldest entry tells what is too much.
local lines = tonumber(ARGV[6])
local step = math.ceil(lines / 16)
if math.floor(count / step) > math.floor(was_spent / step) then
  for _ = 1, 8 do
    local oldest = try('XRANGE', log, '-', '+', 'COUNT', 1)[1]
    local g, n = match(oldest and oldest[1] or '', '^(%d+)%-(%d+)$')
    if not n or tonumber(n) > count - lines then break end
    try('XTRIM', log, 'MINID', g .. '-' .. whole(count - lines + 1))
  end
end

-- Forget records of keys that have been pending for longer than the retention, and outcomes of nodes that have not
-- called for long; always more than were added, so that a backlog shrinks. A key that was latched since is not meant.
-- Junk in the set's place must not cost the calls their outcome.
local expired = try('ZRANGEBYSCORE', due, '-inf', milliseconds, 'LIMIT', 0, calls + 3)
if #expired > 0 then
  local old, life = try('HMGET', records, unpack(expired)), tonumber(ARGV[8])
  for i, field in ipairs(expired) do
    local value = old[i] or ''
    local called = match(value, '^%d+\n%d+ %d+ (%d+)%d%d%d\n')
    if called and tonumber(called) + life > tonumber(milliseconds) then
      try('ZADD', due, whole(tonumber(called) + life), field)
    else
      if find(field, '^%z') or find(value, '^%["[pr]') then try('HDEL', records, field) end
      try('ZREM', due, field)
    end
  end
end
return reply()
