# Two callers, one reset.
case 169
version 5.3
offer
open relid=1
reset
H< close
H< teardown
reset
H< silence
H> done
H> done
B< ResetDone callers=2
