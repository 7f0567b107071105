/// A queue whose smallest element comes out first.
struct Heap<Element: Comparable> {
    private var elements: [Element] = []

    /// Adds an element.
    mutating func push(_ element: Element) {
        elements.append(element)
        var place = elements.count - 1
        while place > 0, elements[place] < elements[(place - 1) / 2] {
            elements.swapAt(place, (place - 1) / 2)
            place = (place - 1) / 2
        }
    }

    /// Takes the smallest element out; nil where there is none.
    mutating func pop() -> Element? {
        guard let smallest = elements.first else { return nil }
        let last = elements.removeLast()
        if elements.isEmpty { return smallest }
        elements[0] = last
        var place = 0
        while let child = smallerChild(place), elements[child] < elements[place] {
            elements.swapAt(place, child)
            place = child
        }
        return smallest
    }

    private func smallerChild(_ place: Int) -> Int? {
        let left = 2 * place + 1
        guard left < elements.count else { return nil }
        let right = left + 1
        return right < elements.count && elements[right] < elements[left] ? right : left
    }
}
