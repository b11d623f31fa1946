--[[
Applies the calls of one node to one map, as one step.

KEYS  1 records (hash)   2 log (stream)   3 due (sorted set)
ARGV  1 the settings, with a space between two of them:
          number of this batch, and that of the one before it where that is not answered yet, else 0
          server process that the caller believes to talk to
          newest generation that the caller has seen
          incarnation of the node, and its name
          doorbell channel (a key's channel is this, a colon, and the key)
          lines of history to keep
          retention of pending keys' records, milliseconds
          life of the outcome, milliseconds
          length from which the history leaves a value out
      2 a letter a call (2,000 at most): F fires, X fails, P pulses, R resets
      then the key of each call; then the data of each (JSON; for a reset the "GENERATION,NUMBER" that must stand, or
      nothing)

Reply "GENERATION NUMBER TIME\n": NUMBER is the last one spent before the first change, TIME in microseconds.
Then, for each call, one of
      +            applied, under the next number
      *LEN:RECORD  applied, under the next number, and RECORD says what was made of it (reset)
      =LEN:RECORD  nothing changed: RECORD stands
      -            nothing changed: nothing stands
      !LEN:ERROR   not applied
with a ~ before it where a number was spent on a change that had to be undone.

A number answered before is answered as before, if it is the node's last or the one before that. A lower one is
refused with an error that begins with STALE; one that does not find applied what it comes after, with EARLY.
An error in place of the reply means that nothing was applied.

Two kinds of fields of the hash are no records; no key begins as they do:
      \0head              "GENERATION NUMBER PROCESS GENERATION NUMBER": the revision of the newest line, the server
                          process that it was written under, and the revision that its generation follows; then the
                          last number spent, where that is higher
      \0call:INCARNATION:0, :1  "NUMBER\nREPLY": the node's last call with an even, an odd number, and its outcome

The lines of one call are one entry of the stream, under the number of the last: key and record in turn. Before them
comes an empty key with the "GENERATION NUMBER" that the first follows, where that is not the number before its own.
]]

local ask, try = redis.call, redis.pcall
local byte, find, format, match, sub = string.byte, string.find, string.format, string.match, string.sub

-- '%d' is several times as fast as '%.0f', and does not reach further than this where a C long has 32 bits.
local function form(n) return n < 2147483648 and '%d' or '%.0f' end
local function whole(n) return format(form(n), n) end

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
local SETTINGS = '^(%d+) (%d+) (%w+) (%d+) (%w+) ([%w._-]+) (%S+) ([1-9]%d*) (%d+) ([1-9]%d*) (%d+)$'
local called, before, told, seen, incarnation, node, doorbell, lines, retention, life, large =
  match(ARGV[1] or '', SETTINGS)
local letters = ARGV[2] or ''
local calls = #letters
if not called or math.max(#called, #before, #seen, #lines, #retention, #life, #large) > 16
  or calls > 2000 or #ARGV ~= 2 + 2 * calls or find(letters, '[^FXPR]') then
  return redis.error_reply('ERR the settings given to apply.lua are not what they should be')
end

-- What stands.
local records, log, due = KEYS[1], KEYS[2], KEYS[3]
local number = tonumber(called)
local HEAD, CALL, NOTHING = '\0head', '\0call:' .. incarnation .. ':' .. number % 2, '0\n'
local OTHER = '\0call:' .. incarnation .. ':' .. (number + 1) % 2
local found = try('HMGET', records, HEAD, CALL, OTHER, unpack(ARGV, 3, 2 + calls))
if failure(found, records) then return redis.error_reply(failure(found, records)) end
local head, last = found[1], found[2]

local done, at = match(last or NOTHING, '^(%d+)\n()')
if done == called then
  -- A write, so that a WAIT after the repetition waits for something.
  try('HSET', records, CALL, last)
  return sub(last, at)
end
local newest_call = math.max(tonumber(done) or 0, tonumber(match(found[3] or NOTHING, '^(%d+)\n')) or 0)
if newest_call > number then
  return redis.error_reply('STALE call ' .. called .. ', a later one was applied')
end
if before ~= '0' and tonumber(before) ~= newest_call then
  return redis.error_reply('EARLY call ' .. called .. ', the one before it was not applied')
end

local time = ask('TIME')
local now = time[1] .. format('%06d', time[2])
local milliseconds = sub(now, 1, -4)

-- The head. A new generation begins where the data came under another process, or had gone: what is written from
-- here on can never be taken for what another process wrote, or for what was lost.
local generation, newest, process, follows, spent = '0', 0, '', '0 0', nil
if head then
  local g, n, p, f, beyond = match(head, '^(%d+) (%d+) (%w+) (%d+ %d+) ?(%d*)$')
  if not g then return redis.error_reply('CORRUPT the head of ' .. records .. ' is not one of coord\'s') end
  generation, newest, process, follows, spent = g, tonumber(n), p, f, tonumber(beyond)
end
-- A change that was undone has spent its number: the stream does not take one twice.
local count = spent or newest
-- What the next line of the history follows, where that is not the number before its own.
local after = count > newest and generation .. ' ' .. whole(newest) or nil
local begins = false
if process ~= told then
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
    local highest = math.max(tonumber(generation), tonumber(seen), logged)
    follows = generation .. ' ' .. whole(newest)
    generation = whole(tonumber(now) > highest and tonumber(now) or highest + 1 + tonumber(time[2]))
    process, after, begins = actual, follows, true
  end
end

-- First all is decided, then all is written: one command for the records of all calls, with the head and the outcome
-- as they will be if nothing is refused.
local FIRE, FAIL, PULSE, RESET = byte('FXPR', 1, 4)
local OPENING = {[FIRE] = '["fired",[', [FAIL] = '["failed",[', [PULSE] = '["pulsed",[', [RESET] = '["reset",['}
local closing = '],' .. now .. ',"' .. node .. '"'
local kinds, largest, was_spent, decimal = {byte(letters, 1, calls)}, tonumber(large), count, form(count + calls)
local standing, made, outcomes, written, pending = {}, {}, {}, {CALL, '', HEAD, ''}, {}
local entry = after and {'', after} or {}
-- Where these end.
local w, e = 4, #entry
for i = 1, calls do standing[ARGV[i + 2]] = found[i + 3] end

for i = 1, calls do
  local kind, key, data, wake = kinds[i], ARGV[i + 2], ARGV[i + 2 + calls], ''
  if (byte(key) or 0) == 0 or (data == '') ~= (kind == RESET) and not (kind == RESET and find(data, '^%d+,%d+$')) then
    return redis.error_reply('ERR the calls given to apply.lua are not what they should be')
  end
  local old, outcome = standing[key], nil
  if old then
    local word, revision, from = match(old, '^%["(%l+)",%[(%d+,%d+)%],%d+,"[%w._-]+"[^\n]*%]\n()')
    local latched = word == 'fired' or word == 'failed'
    word = (latched or word == 'pulsed' or word == 'reset') and word
    if not word and (kind ~= RESET or data ~= '') then
      outcome = '!52:CORRUPT the record that stands is not one of coord\'s'
    elseif kind ~= RESET then
      if latched and kind ~= PULSE then outcome = '=' .. #old .. ':' .. old end
    elseif word and not latched or data ~= '' and data ~= revision then
      outcome = '=' .. #old .. ':' .. old
    else
      -- The last wake is kept: a waiter that was away when the key was fired still gets it.
      wake = word and ',"' .. word .. '",[' .. revision .. ']' or ''
      data = word and sub(old, from) or ''
    end
  elseif kind == RESET then
    outcome = '-'
  end
  if not outcome then
    count = count + 1
    local record = OPENING[kind] .. generation .. ',' .. format(decimal, count) .. closing .. wake .. ']\n' .. data
    made[i], standing[key] = record, record
    written[w + 1], written[w + 2] = key, record
    entry[e + 1], entry[e + 2] = key, #data > largest and sub(record, 1, -2 - #data) or record
    w, e = w + 2, e + 2
    if kind == PULSE or kind == RESET then
      pending[#pending + 1] = whole(milliseconds + retention)
      pending[#pending + 1] = key
    end
    outcome = kind == RESET and '*' .. #record .. ':' .. record or '+'
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
  pending[#pending + 1] = whole(milliseconds + life)
  pending[#pending + 1] = CALL
end
local answer = reply()
written[2] = called .. '\n' .. answer
if count > was_spent then written[4] = head_at(count) else written = {CALL, written[2]} end
local id = generation .. '-' .. whole(count)
local err = failure(try('PUBLISH', doorbell, 'x'), doorbell) or failure(try('HSET', records, unpack(written)), records)
if not err then
  err = #pending > 0 and failure(try('ZADD', due, unpack(pending)), due)
    or count > was_spent and failure(try('XADD', log, id, unpack(entry)), log)
  if err then
    -- The numbers are spent: where somebody else has written ahead of us in the stream, we get past that.
    if begins then restore(HEAD, head) else try('HSET', records, HEAD, head_at(newest)) end
    try('HSET', records, CALL, last or NOTHING)
    for i = 1, calls do restore(ARGV[i + 2], found[i + 3]) end
  end
end
if err then return redis.error_reply(err) end

-- The messages. A key whose channel is forbidden has the error, and is as it was before.
local refused
for i = 1, calls do
  local record, key = made[i], ARGV[i + 2]
  local because = refused and refused[key]
  if record and not because then
    local channel = doorbell .. ':' .. key
    because = failure(try('PUBLISH', channel, record), channel)
    if because then
      restore(key, found[i + 3])
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
  answer = reply()
  try('HSET', records, CALL, called .. '\n' .. answer)
end

-- Cut the history, in steps. Numbers go on through the generations, so the oldest entry tells what is too much.
local step = math.ceil(lines / 16)
if count % step < count - was_spent then
  for _ = 1, 8 do
    local oldest = try('XRANGE', log, '-', '+', 'COUNT', 1)[1]
    local g, n = match(oldest and oldest[1] or '', '^(%d+)%-(%d+)$')
    if not n or tonumber(n) > count - lines then break end
    try('XTRIM', log, 'MINID', g .. '-' .. whole(count - lines + 1))
  end
end

-- Forget records of keys that have been pending for longer than the retention, and outcomes of nodes that have not
-- called for long: always more than were added, so that a backlog shrinks, and now and then where none is. A key that
-- was latched since is not meant. Junk in the set's place must not cost the calls their outcome.
local look = #pending > 0 or number % 16 == 0
local expired = look and try('ZRANGEBYSCORE', due, '-inf', milliseconds, 'LIMIT', 0, calls + 3) or {}
if #expired > 0 then
  local old = try('HMGET', records, unpack(expired))
  for i, field in ipairs(expired) do
    local value = old[i] or ''
    local since = tonumber(match(value, '^%d+\n%d+ %d+ (%d+)%d%d%d\n'))
    if since and since + life > tonumber(milliseconds) then
      try('ZADD', due, whole(since + life), field)
    else
      if find(field, '^%z') or find(value, '^%["[pr]') then try('HDEL', records, field) end
      try('ZREM', due, field)
    end
  end
end
return answer
