// The weights of a table are a staircase: row `i` has one weight for each model output (or noise)
// before it, so column `j` begins in a later row than column `j - 1`, or in the same one.

extension SamplerTable {
    /// The last rows of the staircases, without the outputs and noises of the calls before them.
    ///
    /// - Parameter calls: How many calls to keep, from 1 to all of them.
    func tail(_ calls: Int) throws -> SamplerTable {
        let skipped = self.calls - calls
        let drawn = draws[..<skipped].reduce(0, +)
        return try SamplerTable(
            timesteps: Array(timesteps[skipped...]),
            initial: Array(initial[skipped...]),
            outputs: outputs[skipped...].map { Array($0.dropFirst(skipped)) },
            noise: noise[skipped...].map { Array($0.dropFirst(drawn)) },
            draws: Array(draws[skipped...]),
            scale: Array(scale[skipped...]))
    }
}

/// The rows of a staircase with its first columns replaced.
///
/// - Throws: `SamplerError` where the columns are not as long as the ones that they replace.
func replacingColumns(_ rows: [[Double]], with columns: [[Double]]) throws -> [[Double]] {
    var result = rows
    for (place, column) in columns.enumerated() {
        guard let first = rows.firstIndex(where: { $0.count > place }),
            column.count == rows.count - first
        else {
            throw SamplerError.malformed(
                "Column \(place) of a start from a picture does not fit the table of the schedule")
        }
        for (offset, weight) in column.enumerated() { result[first + offset][place] = weight }
    }
    return result
}
