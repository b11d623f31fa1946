--[[
The call that adds a holder of a lock. A part of what apply.lua begins, behind apply_holders.lua.
]]

-- == Locks ==

local lock

if changes_holders then
  -- Has the owner of a lock own it here, too, if this server has lost the grant, and not granted it later; returns the
  -- refusal, or nil.
  local function grant_again(i, holder, token, owner, tail)
    local generation, number = match(token, '(%d+),(%d+)')
    local other, later = match(tail, '"token":%[(%d+),(%d+)%]')
    local newer = owner and (other + 0 > generation + 0 or other == generation and later + 0 > number + 0)
    if newer or not recovering() then return refusal('LOST it has been granted again, or may have been') end
    if owner and holder_of(owner) then remove(i, holder_of(owner)) end
    holder.token = token
  end

  lock = function(i, _, key, old, data, by)
    local name, lease, token, value = match(data, '^(%S+) (%S+) (%S+)\n(.+)$')
    local word, revision, tail, from = parsed(old or NONE)
    local wrong = word and no_event(tail)
    if wrong == COUNTER then return COUNTER end
    local known, over = holder_of(name), word and is_over(key, tail)
    local latched = not over and (word == 'fired' or word == 'failed')
    local owner = latched and wrong and match(tail, '"held":"([^"]*)"')
    if latched and not owner then return refusal('KIND it is an event that is ' .. word .. ', not a lock') end
    local problem = refused(word, key, known, lease, 0)
    local holder = known or {name = name, lease = lease, need = 0, node = by, key = key, value = value}
    if not problem and token ~= '0,0' and owner ~= name then problem = grant_again(i, holder, token, owner, tail) end
    if problem then return problem end
    -- Who does not know yet that it owns the lock may have lost it since, and this server that, too.
    local unaware = owner == name and token == '0,0' and known and known.lease ~= lease and recovering()
    bind(i, holder, lease, holder.value, owner == name and not unaware)
    if unaware then return nil, pending_tail(word, revision, tail), sub(old, from), WITHDRAW end
    local next = holder.token and holder or not owner and successor(key)
    if not next then return over and ';' or old and '=' or '-' end
    return nil, held_tail(next, tail, owner and revision), next.value, FIRE, next.node
  end
end
