#= 4:1: nothing was asked that `done` could answer
version 5.3
offer
H> done(0)
