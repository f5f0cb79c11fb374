# The route goes before the rescind, not after it.
#= 8:1: B< CloseSlot flag=1 relid=1 generation=1 came before what is expected before it
version 5.3
offer
open relid=1
revoke relid=1
G< RESCIND_OFFER relid=1
B< CloseSlot flag=1
