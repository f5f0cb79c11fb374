#= 2:3: unknown state 'chanels'; did you mean channels?
= chanels 1
