from insource.cascade.coin import hash_coin


def test_the_coin_falls_the_same_way_for_the_same_key_and_id():
    ids = [f"request-{n}" for n in range(200)]
    assert [hash_coin(7)(i) for i in ids] == [hash_coin(7)(i) for i in ids]
    assert [hash_coin(7)(i) for i in ids] != [hash_coin(8)(i) for i in ids]


def test_the_coin_is_uniform():
    coin = hash_coin(b"key")
    falls = [coin(f"request-{n}") for n in range(20_000)]
    assert all(0 <= fall < 1 for fall in falls)
    for rate in (0.02, 0.05, 0.5):
        share = sum(fall < rate for fall in falls) / len(falls)
        assert abs(share - rate) < 4 * (rate * (1 - rate) / len(falls)) ** 0.5
