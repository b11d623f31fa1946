--[[
Applies the calls of one node to one map, as one step. due.lua stands before it.

KEYS  see due.lua
ARGV  1 the settings, with a space between two of them:
          flags: "-" for none, "n" for one call that has a name (`once=`)
          number of this batch, and that of the one before it if that is not answered yet, else 0
          newest revision that the caller has seen: generation, number
          incarnation of the node (of a named call: what its name comes to), and the node's name
          doorbell channel (a key's channel is this, a colon, and the key)
          lines of history to keep
          retention of pending keys' records, milliseconds
          life of the outcome, milliseconds
          length from which the history leaves a value out
      2 a letter a call (2,000 at most): F fires, X fails, P pulses, R resets
      then the key of each call; then the data of each (JSON; for a reset the "GENERATION,NUMBER" that must stand, or
      nothing); then, if the calls are not all of the node itself, the names of their nodes, with commas between

Reply "GENERATION NUMBER TIME\n": NUMBER is the last one spent before the first change, TIME in microseconds.
Then, for each call, one of
      +            applied, under the next number
      *LEN:RECORD  applied, under the next number, and RECORD says what was made of it (a reset; a named call)
      =LEN:RECORD  nothing changed: RECORD stands
      -            nothing changed: nothing stands
      !LEN:ERROR   not applied
with a ~ before it if a number was spent on a change that had to be undone.

A batch answered before is answered as before, with a = ahead of the reply, if it is the node's last or the one before
that. The outcomes are kept without values: a RECORD has its value if it still stands, else it ends with its header (and
so it does in a reply that would be large). A lower number is refused with an error that begins with STALE; one that does not find applied what it comes after, with
EARLY; another call of the same name, with REUSED; data of a later layout, with NEWER.
An error in place of the reply means that nothing was applied.

Two kinds of fields of the hash are no records; no key begins as they do:
      \0head              "LAYOUT GENERATION NUMBER PROCESS DATA GENERATION NUMBER": the revision of the newest line,
                          the run id and the replication id of the server that it was written under (16 digits of
                          each), and the revision that its generation follows; then the last number spent, if higher
      \0call:INCARNATION:0, :1  "NUMBER\nREPLY": the node's last call with an even, an odd number, and its outcome

A record is a header and a value: '["KIND",[GENERATION,NUMBER],TIME,"NODE"]\nVALUE'. The header may end with a JSON
object behind the node: its "wake" is the last wake that a reset keeps. A reset keeps the other members, too.

The lines of one call are one entry of the stream, under the number of the last: key and record in turn. Before them
comes an empty key with the "GENERATION NUMBER" that the first follows, if that is not the number before its own.
]]

-- A lone call finds little of this in the processor's caches, and pays for each function, table and command that it
-- touches: so the usual way needs few, and numbers that are not reckoned with stay text.

local LAYOUT, NOTHING, DAY = '1', '0\n', 86400000000
-- What a call makes of its key, by the byte of its letter.
local PULSE, RESET = 80, 82
local WORDS = {[70] = 'fired', [88] = 'failed', [PULSE] = 'pulsed', [RESET] = 'reset'}

-- == Settings ==
-- What makes no sense is refused before anything is written: an error half-way would leave a half.

local SETTINGS = '^([-n]) (%d+) (%d+) (%d+) (%d+) (%w+) ([%w._-]+) (%S+) ([1-9]%d*) (%d+) ([1-9]%d*) (%d+)$'
local flags, called, before, generation_seen, number_seen, incarnation, node, doorbell, lines, retention, life,
  large = match(ARGV[1] or '', SETTINGS)
local letters = ARGV[2] or ''
local calls = #letters
local nodes = ARGV[3 + 2 * calls]
local named = flags == 'n'
if not flags or #called > 16 or #before > 16 or #generation_seen > 16 or #number_seen > 16 or #lines > 16
  or #retention > 16 or #life > 16 or #large > 16 or calls > 2000 or #ARGV ~= 2 + 2 * calls + (nodes and 1 or 0)
  or find(letters, '[^FXPR]') or (nodes and find(nodes, '[^%w._,-]')) or (named and calls ~= 1) then
  return redis.error_reply('ERR the settings given to apply.lua are not what they should be')
end
-- No key has control characters, C1 in UTF-8 included: keys are shown on terminals. All are looked at together.
local keys = table.concat(ARGV, '', 3, 2 + calls)
if find(keys, '%c') or find(keys, '\194', 1, true) and find(keys, '\194[\128-\159]') then
  return redis.error_reply('ERR the calls given to apply.lua are not what they should be')
end

-- == What stands ==

local number = called + 0
local CALL, OTHER = '\0call:' .. incarnation .. ':0', '\0call:' .. incarnation .. ':1'
if number % 2 == 1 then CALL, OTHER = OTHER, CALL end
local found = try('HMGET', records, HEAD, CALL, OTHER, unpack(ARGV, 3, 2 + calls))
if found.err then return redis.error_reply(failure(found, records)) end
local head, last = found[1], found[2]

local generation, newest, process, data, follows, spent = '0', '0', '-', '', '0 0', ''
if head then
  generation, newest, process, data, follows, spent =
    match(head, '^' .. LAYOUT .. ' (%d+) (%d+) (-?%w*) (%w+) (%d+ %d+) ?(%d*)$')
  if not generation then
    local later = (match(head, '^(%d+) ') or '0') + 0 > LAYOUT + 0
    return redis.error_reply(later and 'NEWER ' .. records .. ' was written by a newer coord'
      or 'CORRUPT the head of ' .. records .. ' is not one of coord\'s')
  end
end

-- == Repeats ==
-- An outcome is answered as it was kept, with the values of the records that still stand, up to 256 KiB of them: the
-- reply may have been lost because the server bounds what it holds for a client. As it is, if it is no outcome.

local done, at = match(last or NOTHING, '^(%d+)\n()')
if done == called then
  -- A write, so that a WAIT after the repetition waits for something.
  try('HSET', records, CALL, last)
  local room, told, begin = 262144, {'=' .. (match(last, '^%d+ %d+ %d+\n', at) or '')}, at
  at = at + #told[1] - 1
  for i = 1, calls do
    local mark, next = match(last, '^(~*[-+*=!])()', at)
    if not mark then return '=' .. sub(last, begin) end
    at = next
    if find(mark, '[*=!]') then
      local length, from = match(last, '^(%d+):()', at)
      if not length then return '=' .. sub(last, begin) end
      at = from + length
      local text, stands = sub(last, from, at - 1), found[i + 3]
      if stands and #stands <= room and sub(stands, 1, #text + 1) == text .. '\n' then
        room, text = room - #stands, stands
      end
      mark = mark .. #text .. ':' .. text
    end
    told[i + 1] = mark
  end
  return table.concat(told)
end
local latest, other = (done or 0) + 0, (match(found[3] or NOTHING, '^(%d+)\n') or 0) + 0
if other > latest then latest = other end
if named and latest > 0 then
  return redis.error_reply('REUSED the name was given to another call')
end
if latest > number then
  return redis.error_reply('STALE call ' .. called .. ', a later one was applied')
end
if before ~= '0' and before + 0 ~= latest then
  return redis.error_reply('EARLY call ' .. called .. ', the one before it was not applied')
end

-- == Generation ==
-- A new one begins if the data came under another server or another history, or had gone, or if the
-- caller has seen more than there is: what is written from here on can never be taken for what another server wrote, or
-- for what was lost. The server itself is asked, at every batch: a primary that was a replica for a while is the same
-- process, and no connection to it was lost. A change that was undone has spent its number: the stream takes none
-- twice.

local time = redis.call('TIME')
local now = time[1] .. format('%06d', time[2])
local milliseconds = sub(now, 1, -4)
-- What the next line of the history follows, if that is not the number before its own.
local after, begins
if spent == '' then spent = newest elseif spent + 0 > newest + 0 then after = generation .. ' ' .. newest end

local info = try('INFO', 'replication')
if failure(info, 'INFO') then return redis.error_reply(failure(info, 'INFO')) end
local actual = sub(match(info, 'master_replid:(%x+)') or '', 1, 16)
if actual == '' then return redis.error_reply('ERR INFO does not tell the master_replid of this server') end
local ahead = generation_seen + 0 - generation
if actual ~= data or ahead > 0 or (ahead == 0 and number_seen + 0 > spent + 0) then
  local logged, stream = 0, try('XINFO', 'STREAM', log)
  for i = 1, #stream, 2 do
    if stream[i] == 'last-generated-id' then logged = match(stream[i + 1], '^%d+') + 0 end
  end
  -- Not only the clock: it may have been set back, and may differ from the last server's. The microseconds are for two
  -- servers that begin one after the same generation, if what the first of them wrote was lost. What a caller claims is
  -- believed up to a day ahead.
  local highest = math.max(generation + 0, math.min(generation_seen + 0, now + DAY), logged)
  follows = generation .. ' ' .. newest
  generation = format('%.0f', now + 0 > highest and now + 0 or highest + 1 + time[2])
  data, after, begins = actual, follows, true
end
-- A map that is in no idle set, or is under another process: this batch registers it, if it writes a head.
local registers = begins or process == '-'
if registers then
  local server = try('INFO', 'server')
  process = type(server) == 'string' and sub(match(server, 'run_id:(%x+)') or '0', 1, 16) or '0'
end

-- == Transitions ==
-- First all is decided, then all is written: one command for the records of all calls, with the head
-- and the outcome as they will be if nothing is refused.

local first, count, text, largest, kinds = spent + 0, spent + 0, spent, large + 0, {byte(letters, 1, calls)}
-- '%d' is several times as fast as '%.0f', and does not reach further than this where a C long has 32 bits.
local decimal = count + calls < 2147483648 and '%d' or '%.0f'
local opening, closing = '",[' .. generation .. ',', '],' .. now .. ',"' .. node .. '"'
local standing, made, outcomes, written, w = {}, {}, {}, {CALL, '', HEAD, '', '', ''}, 4
-- The records that outcomes tell; the entry of the history, if that is not what is written to the hash from the fifth
-- word on; what is pending now, and the keys that were.
local told, entry, pending, ended = nil, after and {'', after}, nil, nil

-- Decides what a call makes of a key that has a record: answers the outcome if nothing changes; else nothing, the
-- members behind the node, and the value.
local function decide(kind, old, value)
  local word, revision, tail, from = match(old, '^%["(%l+)",%[(%d+,%d+)%],%d+,"[%w._-]+"([^\n]*)%]\n()')
  local latched = word == 'fired' or word == 'failed'
  if not (latched or word == 'pulsed' or word == 'reset') or tail ~= '' and not find(tail, '^,{".+}$') then
    -- A reset repairs it.
    if kind == RESET and value == '' then return nil, '', '' end
    return '!52:CORRUPT the record that stands is not one of coord\'s'
  end
  if kind ~= RESET then
    return latched and kind ~= PULSE and '=', '', value
  end
  if not latched or value ~= '' and value ~= revision then return '=' end
  -- The last wake is kept: a waiter that was away when the key was fired still gets it.
  local rest = tail == '' and '}' or ',' .. sub(tail, 3)
  return nil, ',{"wake":["' .. word .. '",' .. revision .. ']' .. rest, sub(old, from)
end

local names = nodes and string.gmatch(nodes, '[^,]+')
for i = 1, calls do
  local kind, key, value, outcome, tail = kinds[i], ARGV[i + 2], ARGV[i + 2 + calls], nil, ''
  if key == '' or (value == '') ~= (kind == RESET) and not (kind == RESET and find(value, '^%d+,%d+$')) then
    return redis.error_reply('ERR the calls given to apply.lua are not what they should be')
  end
  local old, by = standing[key] or found[i + 3], names and names()
  if old then
    outcome, tail, value = decide(kind, old, value)
  elseif kind == RESET then
    outcome = '-'
  end
  local record = old
  if not outcome then
    count = count + 1
    text = format(decimal, count)
    if by then closing = '],' .. now .. ',"' .. by .. '"' end
    record = '["' .. WORDS[kind] .. opening .. text .. closing .. tail .. ']\n' .. value
    made[i], standing[key] = record, record
    written[w + 1], written[w + 2] = key, record
    if #value > largest then entry = entry or {unpack(written, 5, w)} end
    if entry then
      entry[#entry + 1] = key
      entry[#entry + 1] = #value > largest and sub(record, 1, -2 - #value) or record
    end
    w = w + 2
    if kind == PULSE or kind == RESET then
      pending = pending or {}
      pending[#pending + 1] = format('%.0f', milliseconds + retention)
      pending[#pending + 1] = key
      if ended then ended[key] = nil end
    elseif old then
      ended = ended or {}
      ended[key] = true
    end
    outcome = (kind == RESET or named) and '*' or '+'
  end
  if outcome == '*' or outcome == '=' then
    told = told or {}
    told[i] = record
  end
  outcomes[i] = outcome
end

-- == Outcomes ==
-- What is kept has no values.

local kept
if told then
  kept = {unpack(outcomes)}
  for i, record in pairs(told) do
    local header = match(record, '^[^\n]*')
    kept[i] = outcomes[i] .. #header .. ':' .. header
    outcomes[i] = outcomes[i] .. #record .. ':' .. record
  end
end
local answer = generation .. ' ' .. spent .. ' ' .. now .. '\n'
local body = calls == 1 and outcomes[1] or table.concat(outcomes)
if named and byte(body) == 33 then
  -- A refusal is not kept under a name: the same call may be made again when its cause is mended.
  return answer .. body
end

-- == Writing ==
-- What forbids a part of it (permissions, memory, a read-only server, a wrong type) refuses the call as a
-- whole. The doorbell's listeners cannot look before this script has ended.

-- What a head says behind its revision.
local under = ' ' .. process .. ' ' .. data .. ' ' .. follows
local opened = LAYOUT .. ' ' .. generation .. ' '
local changed = count > first
written[2] = called .. '\n' .. answer .. (kept and table.concat(kept) or body)
if changed then written[4] = opened .. text .. under else written = {CALL, written[2]} end
if not last or last == NOTHING then
  pending = pending or {}
  pending[#pending + 1] = format('%.0f', milliseconds + life)
  pending[#pending + 1] = CALL
end
local soonest
if registers then
  pending = pending or {}
  pending[#pending + 1], pending[#pending + 2] = 'inf', ''
  soonest = format('%.0f', milliseconds + math.min(retention, life))
end

local id = generation .. '-' .. text
local err = failure(try('PUBLISH', doorbell, 'x'), doorbell) or failure(try('HSET', records, unpack(written)), records)
if not err then
  err = pending and failure(try('ZADD', due, unpack(pending)), due)
    or soonest and failure(try('ZADD', idle, soonest, match(records, '/(.*)}$') or records), idle)
    or changed and failure(try('XADD', log, id, unpack(entry or written, entry and 1 or 5)), log)
  if err then
    -- The numbers are spent: if another has written ahead of us in the stream, we get past that.
    local beyond = text ~= newest and ' ' .. text or ''
    restore(HEAD, not begins and opened .. newest .. under .. beyond or head)
    restore(CALL, not named and (last or NOTHING))
    for i = 1, calls do restore(ARGV[i + 2], found[i + 3]) end
  end
end
if err then return redis.error_reply(err) end

-- == Messages ==
-- A key whose channel is forbidden has the error, and is as it was before.

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
      if ended then ended[key] = nil end
      refused = refused or {}
      refused[key] = because
    end
  end
  if because then
    outcomes[i] = (record and '~!' or '!') .. #because .. ':' .. because
    if kept then kept[i] = outcomes[i] end
  end
end

-- == Refusals ==
-- The entry again, without what was refused, and under a number of its own: the stream takes none twice.

if refused then
  entry = entry or {unpack(written, 5, w)}
  local left, good, spending, at = {}, nil, first, after and 2 or 0
  for i = 1, at do left[i] = entry[i] end
  for i = 1, calls do
    if made[i] then
      spending, at = spending + 1, at + 2
      if not refused[entry[at - 1]] then
        left[#left + 1], left[#left + 2], good = entry[at - 1], entry[at], format('%.0f', spending)
      end
    end
  end
  if not failure(try('XDEL', log, id), log) and good then
    count = count + 1
    text = format('%.0f', count)
    try('XADD', log, generation .. '-' .. text, unpack(left))
  end
  -- No generation begins without a line: its first one says what it follows.
  local beyond = text ~= (good or newest) and ' ' .. text or ''
  restore(HEAD, (good or not begins) and opened .. (good or newest) .. under .. beyond or head)
  body = table.concat(outcomes)
  restore(CALL, not named and called .. '\n' .. answer .. (kept and table.concat(kept) or body))
end

-- == Tidying ==
-- Now and then, and whenever something was added to what is due.

if ended then
  -- What is latched is no longer to be forgotten.
  local latched = {}
  for key in pairs(ended) do latched[#latched + 1] = key end
  if #latched > 0 then try('ZREM', due, unpack(latched)) end
end
if pending or count % 16 < count - first then
  -- The history is cut in steps. Numbers go on through the generations, so the oldest entry tells what is too much.
  local step = 16 * math.max(1, math.floor(lines / 256))
  for _ = 1, count % step < count - first and 8 or 0 do
    local oldest = try('XRANGE', log, '-', '+', 'COUNT', 1)[1]
    local g, n = match(oldest and oldest[1] or '', '^(%d+)%-(%d+)$')
    if not n or n + 0 > count - lines then break end
    try('XTRIM', log, 'MINID', g .. '-' .. format('%.0f', count - lines + 1))
  end
  -- More than was added, so that a backlog shrinks.
  forget(milliseconds, life, calls + 3)
end
return answer .. body
