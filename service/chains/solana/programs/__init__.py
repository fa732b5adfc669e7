"""The swap instructions of four AMM programs: built, decoded, and the accounts they need. Pure.

pool.py             what the programs share: a pool's addresses, a swap to build, a decoded swap
anchor.py           instructions of Anchor programs
raydium_cpmm.py     Raydium CPMM
raydium_amm_v4.py   Raydium AMM v4
meteora_dlmm.py     Meteora DLMM
meteora_damm_v2.py  Meteora DAMM v2
registry.py         the programs of a cluster: opens pools and decodes instructions

The layouts of the accounts are in ``service.amm``. The tests compare every instruction with transactions that
the real programs executed.
"""
