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

-- A lone call finds little of this in the processor's caches, and pays for each function, table and command that it
-- touches: so the usual way needs few, functions close over nothing, and numbers that are not reckoned with stay text.

-- The error that a reply is, with the name that it is about; or nothing.
local function failure(reply, name)
  if type(reply) ~= 'table' or not reply.err then return end
  local text = reply.err .. ' (' .. name .. ')'
  -- Outside of scripts a missing permission has a code of its own; in them, each version has other words for it.
  if string.find(text, 'user executing the script', 1, true) or string.find(text, 'ACL failure in script', 1, true) then
    return 'NOPERM ' .. string.gsub(text, '^ERR ', '')
  end
  return text
end

-- Puts back what stood in a field.
local function restore(field, old)
  if old then redis.pcall('HSET', KEYS[1], field, old) else redis.pcall('HDEL', KEYS[1], field) end
  if not old or not string.find(old, '^%["[pr]') then redis.pcall('ZREM', KEYS[3], field) end
end

local try, type, KEYS, ARGV = redis.pcall, type, KEYS, ARGV
local byte, find, format, match, sub = string.byte, string.find, string.format, string.match, string.sub

-- What makes no sense is refused before anything is written: an error half-way would leave a half.
local SETTINGS = '^(%d+) (%d+) (%w+) (%d+) (%w+) ([%w._-]+) (%S+) ([1-9]%d*) (%d+) ([1-9]%d*) (%d+)$'
local called, before, told, seen, incarnation, node, doorbell, lines, retention, life, large =
  match(ARGV[1] or '', SETTINGS)
local letters = ARGV[2] or ''
local calls = #letters
if not called or #called > 16 or #before > 16 or #seen > 16 or #lines > 16 or #retention > 16 or #life > 16
  or #large > 16 or calls > 2000 or #ARGV ~= 2 + 2 * calls or find(letters, '[^FXPR]') then
  return redis.error_reply('ERR the settings given to apply.lua are not what they should be')
end

-- What stands.
local records, log, due, number = KEYS[1], KEYS[2], KEYS[3], called + 0
local HEAD, NOTHING = '\0head', '0\n'
local CALL, OTHER = '\0call:' .. incarnation .. ':0', '\0call:' .. incarnation .. ':1'
if number % 2 == 1 then CALL, OTHER = OTHER, CALL end
local found = try('HMGET', records, HEAD, CALL, OTHER, unpack(ARGV, 3, 2 + calls))
if found.err then return redis.error_reply(failure(found, records)) end
local head, last = found[1], found[2]

local done, at = match(last or NOTHING, '^(%d+)\n()')
if done == called then
  -- A write, so that a WAIT after the repetition waits for something.
  try('HSET', records, CALL, last)
  return sub(last, at)
end
local latest, other = (done or 0) + 0, (match(found[3] or NOTHING, '^(%d+)\n') or 0) + 0
if other > latest then latest = other end
if latest > number then
  return redis.error_reply('STALE call ' .. called .. ', a later one was applied')
end
if before ~= '0' and before + 0 ~= latest then
  return redis.error_reply('EARLY call ' .. called .. ', the one before it was not applied')
end

local time = redis.call('TIME')
local now = time[1] .. format('%06d', time[2])
local milliseconds = sub(now, 1, -4)

-- The head. A new generation begins where the data came under another process, or had gone: what is written from
-- here on can never be taken for what another process wrote, or for what was lost. A change that was undone has spent
-- its number: the stream does not take one twice.
local generation, newest, process, follows, spent = '0', '0', '', '0 0', ''
if head then
  generation, newest, process, follows, spent = match(head, '^(%d+) (%d+) (%w+) (%d+ %d+) ?(%d*)$')
  if not generation then
    return redis.error_reply('CORRUPT the head of ' .. records .. ' is not one of coord\'s')
  end
end
-- What the next line of the history follows, where that is not the number before its own.
local after, begins
if spent == '' then spent = newest elseif spent + 0 > newest + 0 then after = generation .. ' ' .. newest end
if process ~= told then
  local info = try('INFO', 'server')
  if failure(info, 'INFO') then return redis.error_reply(failure(info, 'INFO')) end
  local actual = match(info, 'run_id:(%x+)')
  if process ~= actual then
    local logged, stream = 0, try('XINFO', 'STREAM', log)
    for i = 1, #stream, 2 do
      if stream[i] == 'last-generated-id' then logged = match(stream[i + 1], '^%d+') + 0 end
    end
    -- Not only the clock: it may have been set back, and may differ from the last server's. The microseconds are for
    -- two processes that begin one after the same generation, where what the first of them wrote was lost.
    local highest = math.max(generation + 0, seen + 0, logged)
    follows = generation .. ' ' .. newest
    generation = format('%.0f', now + 0 > highest and now + 0 or highest + 1 + time[2])
    process, after, begins = actual, follows, true
  end
end

-- First all is decided, then all is written: one command for the records of all calls, with the head and the outcome
-- as they will be if nothing is refused.
local FIRE, FAIL, PULSE, RESET = 70, 88, 80, 82 -- the bytes of F, X, P, R
local opening, closing = '",[' .. generation .. ',', '],' .. now .. ',"' .. node .. '"'
local first, count, text, largest, kinds = spent + 0, spent + 0, spent, large + 0, {byte(letters, 1, calls)}
-- '%d' is several times as fast as '%.0f', and does not reach further than this where a C long has 32 bits.
local decimal = count + calls < 2147483648 and '%d' or '%.0f'
local standing, made, outcomes, written, w, pending = {}, {}, {}, {CALL, '', HEAD, '', '', ''}, 4, nil
-- The entry of the history, where that is not what is written to the hash from the fifth word on.
local entry = after and {'', after}

for i = 1, calls do
  local kind, key, data, wake = kinds[i], ARGV[i + 2], ARGV[i + 2 + calls], ''
  if (byte(key) or 0) == 0 or (data == '') ~= (kind == RESET) and not (kind == RESET and find(data, '^%d+,%d+$')) then
    return redis.error_reply('ERR the calls given to apply.lua are not what they should be')
  end
  local old, outcome = standing[key] or found[i + 3], nil
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
    text = format(decimal, count)
    local word = kind == FIRE and 'fired' or kind == FAIL and 'failed' or kind == PULSE and 'pulsed' or 'reset'
    local record = '["' .. word .. opening .. text .. closing .. wake .. ']\n' .. data
    made[i], standing[key] = record, record
    written[w + 1], written[w + 2] = key, record
    if #data > largest then entry = entry or {unpack(written, 5, w)} end
    if entry then
      entry[#entry + 1] = key
      entry[#entry + 1] = #data > largest and sub(record, 1, -2 - #data) or record
    end
    w = w + 2
    if kind == PULSE or kind == RESET then
      pending = pending or {}
      pending[#pending + 1] = format('%.0f', milliseconds + retention)
      pending[#pending + 1] = key
    end
    outcome = kind == RESET and '*' .. #record .. ':' .. record or '+'
  end
  outcomes[i] = outcome
end

local answer = generation .. ' ' .. spent .. ' ' .. now .. '\n'
local body = calls == 1 and outcomes[1] or table.concat(outcomes)
-- What a head says behind its revision.
local under = ' ' .. process .. ' ' .. follows
written[2] = called .. '\n' .. answer .. body
if count > first then written[4] = generation .. ' ' .. text .. under else written = {CALL, written[2]} end
if not last or last == NOTHING then
  pending = pending or {}
  pending[#pending + 1] = format('%.0f', milliseconds + life)
  pending[#pending + 1] = CALL
end

-- What forbids one of these (permissions, memory, a read-only server, a wrong type) refuses the call as a whole.
-- The doorbell's listeners cannot look before this script has ended.
local id = generation .. '-' .. text
local err = failure(try('PUBLISH', doorbell, 'x'), doorbell) or failure(try('HSET', records, unpack(written)), records)
if not err then
  err = pending and failure(try('ZADD', due, unpack(pending)), due)
    or count > first and failure(try('XADD', log, id, unpack(entry or written, entry and 1 or 5)), log)
  if err then
    -- The numbers are spent: where somebody else has written ahead of us in the stream, we get past that.
    local beyond = text ~= newest and ' ' .. text or ''
    if begins then
      restore(HEAD, head)
    else
      try('HSET', records, HEAD, generation .. ' ' .. newest .. under .. beyond)
    end
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
    local said = try('PUBLISH', channel, record)
    if type(said) == 'table' then
      because = failure(said, channel)
      restore(key, found[i + 3])
      refused = refused or {}
      refused[key] = because
    end
  end
  if because then outcomes[i] = (record and '~!' or '!') .. #because .. ':' .. because end
end

-- The entry again, without what was refused, and under a number of its own: the stream takes none twice.
if refused then
  entry = entry or {unpack(written, 5, w)}
  local kept, good, spending, at = {}, nil, first, after and 2 or 0
  for i = 1, at do kept[i] = entry[i] end
  for i = 1, calls do
    if made[i] then
      spending, at = spending + 1, at + 2
      if not refused[entry[at - 1]] then
        kept[#kept + 1], kept[#kept + 2], good = entry[at - 1], entry[at], format('%.0f', spending)
      end
    end
  end
  if not failure(try('XDEL', log, id), log) and good then
    count = count + 1
    text = format('%.0f', count)
    try('XADD', log, generation .. '-' .. text, unpack(kept))
  end
  -- No generation begins without a line: its first one says what it follows.
  if good or not begins then
    local beyond = text ~= (good or newest) and ' ' .. text or ''
    try('HSET', records, HEAD, generation .. ' ' .. (good or newest) .. under .. beyond)
  else
    restore(HEAD, head)
  end
  body = table.concat(outcomes)
  try('HSET', records, CALL, called .. '\n' .. answer .. body)
end

-- Now and then, and where something was added to what is due:
if pending or count % 16 < count - first then
  -- Cut the history, in steps. Numbers go on through the generations, so the oldest entry tells what is too much.
  local step = 16 * math.max(1, math.floor(lines / 256))
  for _ = 1, count % step < count - first and 8 or 0 do
    local oldest = try('XRANGE', log, '-', '+', 'COUNT', 1)[1]
    local g, n = match(oldest and oldest[1] or '', '^(%d+)%-(%d+)$')
    if not n or n + 0 > count - lines then break end
    try('XTRIM', log, 'MINID', g .. '-' .. format('%.0f', count - lines + 1))
  end
  -- Forget records of keys that have been pending for longer than the retention, and outcomes of nodes that have not
  -- called for long: more than were added, so that a backlog shrinks. A key that was latched since is not meant. Junk
  -- in the set's place must not cost the calls their outcome.
  local expired = try('ZRANGEBYSCORE', due, '-inf', milliseconds, 'LIMIT', 0, calls + 3)
  local old = #expired > 0 and try('HMGET', records, unpack(expired))
  for i, field in ipairs(expired) do
    local value = old[i] or ''
    local since = match(value, '^%d+\n%d+ %d+ (%d+)%d%d%d\n')
    if since and since + life > milliseconds + 0 then
      try('ZADD', due, format('%.0f', since + life), field)
    else
      if find(field, '^%z') or find(value, '^%["[pr]') then try('HDEL', records, field) end
      try('ZREM', due, field)
    end
  end
end
return answer .. body
